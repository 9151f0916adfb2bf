# SPDX-License-Identifier: MIT OR Apache-2.0

t = [0.1, 0.35, 0.8]
B(a, b, t, T) = a * t + (b - a) * t^2 / (2T)
beta(a, b, t, T) = a + t / T * (b - a)

"Compares m, sigma, beta and g with functions of t, and sigma's inverse."
function compare(p, m, sigma, beta, g; at = t)
    r = evaluate(p, at)
    for (name, f) in pairs((m = m, sigma = sigma, beta = beta, g = g))
        @test r[name] ≈ f.(at) rtol = 1e-12
    end
    @test time_of_sigma(p, r.sigma) ≈ at rtol = 1e-9
    one = evaluate(p, at[2])
    @test one.sigma === r.sigma[2] && one.m === r.m[2] && one.beta === r.beta[2] && one.g === r.g[2]
    @test time_of_sigma(p, one.sigma) ≈ at[2] rtol = 1e-9
end

@testset "vp_linear" begin
    compare(vp_linear(), t -> exp(-B(0.1, 20, t, 1) / 2), t -> sqrt(-expm1(-B(0.1, 20, t, 1))), t -> beta(0.1, 20, t, 1),
        t -> beta(0.1, 20, t, 1))
    compare(vp_linear(beta_min = 1, beta_max = 1, t_end = 3), t -> exp(-t / 2), t -> sqrt(-expm1(-t)), t -> 1, t -> 1)
end

@testset "sub_vp" begin
    b(t) = B(0.5, 10, t, 1)
    compare(sub_vp(beta_min = 0.5, beta_max = 10), t -> exp(-b(t) / 2), t -> -expm1(-b(t)), t -> beta(0.5, 10, t, 1),
        t -> beta(0.5, 10, t, 1) * -expm1(-2b(t)))
end

@testset "variance exploding" begin
    compare(ve_power(), t -> 1, t -> t, t -> 0, t -> 2t)
    compare(ve_power(k = 3, a = 0.5, t_end = 2), t -> 1, t -> sqrt(2 * t^1.5), t -> 0, t -> 3 * sqrt(t))
    compare(ve_exponential(rate_base = 100, t_end = 1), t -> 1, t -> sqrt((100^t - 1) / log(100)), t -> 0, t -> 100^t)
    compare(ve_geometric(sigma_min = 0.01, sigma_max = 50), t -> 1, t -> 0.01 * 5000^t, t -> 0,
        t -> 2 * (0.01 * 5000^t)^2 * log(5000))
end

@testset "flow" begin
    compare(flow(), t -> 1 - t, t -> t, t -> 2 / (1 - t), t -> 2t / (1 - t))
end

@testset "discrete" begin
    alpha_bar = Float32[0.9, 0.6, 0.2] # any real numbers
    r = evaluate(discrete(alpha_bar), 1:3; outputs = (:m, :sigma))
    @test keys(r) == (:m, :sigma)
    @test r.m ≈ sqrt.(Float64.(alpha_bar))
    @test r.sigma ≈ sqrt.(1 .- Float64.(alpha_bar))
    between = evaluate(discrete(alpha_bar), 1.5)
    @test between.sigma / between.m ≈ sqrt(prod(r.sigma[1:2] ./ r.m[1:2]))
end

@testset "what is refused" begin
    @test occursin("beta_min", refused(() -> vp_linear(beta_min = -1), "MNEMO_E_INVALID"))
    @test occursin("k is 0", refused(() -> ve_power(k = 0), "MNEMO_E_INVALID"))
    refused(() -> ve_exponential(rate_base = NaN, t_end = 1), "MNEMO_E_INVALID")
    refused(() -> ve_geometric(sigma_min = 2, sigma_max = 1), "MNEMO_E_INVALID")
    refused(() -> sub_vp(beta_max = Inf), "MNEMO_E_INVALID")
    refused(() -> discrete([0.5, 0.6]), "MNEMO_E_INVALID")
    refused(() -> discrete(Float64[]), "MNEMO_E_INVALID")
    refused(() -> evaluate(flow(), [0.5, 1.5]), "MNEMO_E_INVALID")
    refused(() -> time_of_sigma(flow(), 2), "MNEMO_E_INVALID")
    @test_throws ArgumentError evaluate(flow(), 0.5; outputs = (:m, :alpha))
    @test_throws ArgumentError evaluate(flow(), 0.5; outputs = (:m, :m))
    @test_throws MethodError evaluate(flow(), "0.5")
    @test isempty(evaluate(flow(), Float64[]).sigma)
end
