# SPDX-License-Identifier: MIT OR Apache-2.0

"""
    sample([T = Float64], score, n::Integer; options...)
    sample(score, x; options...)

Draws `n` samples, the columns of a d × n matrix of `T`, by integrating the reverse process of `score` from pure noise; or
from the initial states `x`, which are not changed. See [`sample!`](@ref) for the options and errors.
"""
sample(score::Score, n::Integer; options...) = sample(Float64, score, n; options...)
sample(::Type{T}, score::Score, n::Integer; options...) where {T} =
    sample!(Matrix{T}(undef, score.dim, n), score; from_prior = true, options...)
sample(score::Score, x::AbstractArray; options...) = sample!(Array(x), score; options...)
sample(::Score, ::DeviceArray; options...) =
    throw(ArgumentError("x is in the memory of a device: copy it there, and use sample!, which works in place"))

const SAMPLER_OPTIONS = (:solver, :grid, :from_prior, :denoise_last, :steps, :first_sample, :t_start, :t_end, :alpha2, :eta,
    :rtol, :atol, :rho, :s_churn, :s_min, :s_max, :s_noise)

"""
    sample!(x, score; seed = 0, cancel, progress, observer, times, options...)

Integrates the reverse process of `score` in place: `x`, d × n of `Float32` or `Float64`, holds the initial states, unless
`from_prior = true`, and receives the samples. Without options it is EDM's deterministic sampler.

- `solver`: `:heun` (initially), `:euler`, `:exponential` (DDIM), `:dpmpp_2m`, `:rk45`, `:euler_maruyama`, `:ancestral` (DDPM)
  or `:edm_stochastic`.
- `grid`: `:karras` (initially), `:uniform_t`, `:uniform_s`, or `:custom`, the strictly falling `times`, which choose it by
  themselves; a last time of 0, where sigma is 0, means a denoising step. Not looked at by `:rk45`, but for a custom one.
- `steps`: 18, the denoising one included. `denoise_last`: end with the denoised value; `false`.
- `from_prior`: start from sigma(t_start) times normal numbers. `first_sample`: how many samples came before this batch in
  the random stream; 0.
- `t_start`, `t_end`: the process's last time, and that of sigma = 0.002 or the process's first.
- `alpha2` of `:euler_maruyama`, 1; `eta` of `:exponential`, 0, and `:ancestral`, 1; `rtol` and `atol` of `:rk45`, 1e-5; `rho` of
  the Karras grid, 7; `s_churn`, `s_min`, `s_max` and `s_noise` of `:edm_stochastic`, 0, 0, Inf and 1.
- `observer(step, t, x)`: called before the first step, with step 0, and after each, in the task that samples. `x` exists only
  until it returns; copy what is to be kept. What it throws stops the call, which throws it.
- `seed`: of every random number. A sample depends on its initial state, its index (`first_sample` + column), the seed and the
  options; not on the batch nor on the number of threads.

Errors: `MNEMO_E_INVALID`, `MNEMO_E_SHAPE`, `MNEMO_E_CANCELLED`. On failure `x` is untouched.
"""
function sample!(x::AbstractArray, score::Score;
    seed = 0, cancel = nothing, progress = nothing, observer = nothing, times = nothing, stream = C_NULL, check = false,
    options...)
    for name in keys(options)
        name in SAMPLER_OPTIONS || throw(ArgumentError("sample has no option $name; they are seed, cancel, progress, " *
            "observer, times, stream, check, $(join(SAMPLER_OPTIONS, ", "))"))
    end
    exec = Exec(; seed, cancel, progress, observer, stream, check)
    run(exec, :mnemo_sample, score, sampler(times, observer; options...), matrix("x", x))
    return x
end

function sampler(times, observer; changes...)
    nodes = times === nothing ? (;) : (times = floats(times), times_count = length(times), grid = :custom)
    on_step = observer === nothing ? nothing : ON_STEP[]
    return options(ABI.mnemo_sampler_options, :mnemo_sampler_options_init, (; nodes..., observer = on_step, changes...))
end
