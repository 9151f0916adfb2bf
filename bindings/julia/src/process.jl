# SPDX-License-Identifier: MIT OR Apache-2.0

"""
A forward process: noise is added so that x_t given a training row y is normal with mean m(t) y and standard deviation
sigma(t). Made by [`vp_linear`](@ref), [`sub_vp`](@ref), [`ve_power`](@ref), [`ve_exponential`](@ref),
[`ve_geometric`](@ref), [`discrete`](@ref) or [`flow`](@ref). Immutable: any thread may use it.
"""
struct Process <: Resource
    handle::Handle
end

process(create::Symbol, @nospecialize(args...)) = Process(Handle(:Process, :mnemo_process_release, create, args...))

"""
    vp_linear(; beta_min = 0.1, beta_max = 20, t_end = 1)

Variance preserving, linear (Song et al. 2021): beta = g = beta_min + (t/T)(beta_max - beta_min) for 0 ≤ t ≤ T = t_end,
m = exp(-B/2) and sigma² = 1 - exp(-B), B the integral of beta. Constant if beta_min = beta_max.
"""
vp_linear(; beta_min::Real = 0.1, beta_max::Real = 20, t_end::Real = 1) =
    process(:mnemo_process_vp_linear, Float64(beta_min), Float64(beta_max), Float64(t_end))

"""
    sub_vp(; beta_min = 0.1, beta_max = 20)

Sub-VP (Song et al. 2021): m and beta as `vp_linear` with T = 1, sigma = 1 - exp(-B), g = beta (1 - exp(-2B)).
"""
sub_vp(; beta_min::Real = 0.1, beta_max::Real = 20) =
    process(:mnemo_process_sub_vp, Float64(beta_min), Float64(beta_max))

"""
    ve_power(; k = 2, a = 1, t_end = 80)

Variance exploding, power: beta = 0, g = k t^a, m = 1, sigma² = k t^(a+1) / (a+1), k > 0, a > -1. The initial values are
EDM's: sigma = t up to 80.
"""
ve_power(; k::Real = 2, a::Real = 1, t_end::Real = 80) =
    process(:mnemo_process_ve_power, Float64(k), Float64(a), Float64(t_end))

"""
    ve_exponential(; rate_base, t_end)

Variance exploding, exponential: beta = 0, g = r^t, m = 1, sigma² = (r^t - 1) / ln r, r = rate_base > 0.
"""
ve_exponential(; rate_base::Real, t_end::Real) =
    process(:mnemo_process_ve_exponential, Float64(rate_base), Float64(t_end))

"""
    ve_geometric(; sigma_min, sigma_max)

Variance exploding, geometric (Song et al. 2021): m = 1, sigma = sigma_min (sigma_max / sigma_min)^t, 0 ≤ t ≤ 1.
"""
ve_geometric(; sigma_min::Real, sigma_max::Real) =
    process(:mnemo_process_ve_geometric, Float64(sigma_min), Float64(sigma_max))

"""
    discrete(alpha_bar)

Discrete variance preserving (DDPM): `alpha_bar[t]`, strictly falling in (0, 1), is that of step t = 1 … length(alpha_bar);
m = sqrt(alpha_bar), sigma² = 1 - alpha_bar, and between steps log(sigma/m) is linear in t.
"""
function discrete(alpha_bar::AbstractVector{<:Real})
    table = convert(Vector{Float64}, alpha_bar)
    return process(:mnemo_process_discrete, table, Int64(length(table)))
end

"""
    flow()

Flow matching (rectified flow): x_t = (1 - t) y + t eps, so m = 1 - t and sigma = t for 0 ≤ t ≤ 1.
"""
flow() = process(:mnemo_process_flow)

const PROCESS_OUTPUTS = (:m, :sigma, :beta, :g)

"""
    evaluate(process, t; outputs = (:m, :sigma, :beta, :g))

The process at the time `t`, or at each time of a vector: a named tuple of numbers, or of vectors. beta and g are those of
dx = -beta/2 x dt + sqrt(g) dW.
"""
function evaluate(p::Process, t::Union{Real,AbstractVector{<:Real}}; outputs = PROCESS_OUTPUTS)
    names = output_names(outputs, PROCESS_OUTPUTS)
    at = floats(t)
    arrays = map(_ -> similar(at), names)
    results = NamedTuple{names}(arrays)
    native(:mnemo_process_eval, p, at, Int64(length(at)), map(name -> get(results, name, nothing), PROCESS_OUTPUTS)...)
    return t isa Real ? map(first, results) : results
end

"""
    time_of_sigma(process, sigma)

The time at which `process` has the noise level `sigma`, or the times of a vector of levels.
"""
function time_of_sigma(p::Process, sigma::Union{Real,AbstractVector{<:Real}})
    at = floats(sigma)
    t = similar(at)
    native(:mnemo_process_time_of_sigma, p, at, Int64(length(at)), t)
    return sigma isa Real ? first(t) : t
end

"The names of outputs that are asked for, one or several, of those that are `known`."
function output_names(outputs, known)
    names = outputs isa Symbol ? (outputs,) : Tuple(outputs)
    for name in names
        name in known || throw(ArgumentError("outputs has $(repr(name)); they are $(join(repr.(known), ", "))"))
    end
    allunique(names) || throw(ArgumentError("outputs names one twice: $(repr(names))"))
    return names
end
