# SPDX-License-Identifier: MIT OR Apache-2.0
# The empirical score against its formulas, written out in Julia.

Random.seed!(3)
d, N = 3, 12
y = randn(d, N)
labels = repeat([4, -1, 7], 4)
data = Dataset(y; labels)

"All the outputs at one x."
function formulas(y, m, sigma, x; rows = 1:size(y, 2), regularizer = :none, c = 0.0)
    part = y[:, rows]
    d, n = size(part)
    distance = [norm(x - m * part[:, i]) for i in 1:n]
    l = -distance .^ 2 / (2sigma^2)
    total = sum(exp.(l .- maximum(l)))
    w = exp.(l .- maximum(l)) / total
    ybar = part * w
    s = (m * ybar - x) / sigma^2
    log_weight = maximum(l) + log(total)
    log_density = log_weight - log(n) - d / 2 * log(2pi * sigma^2)
    factor(level) = level < log(c) ? exp(level - log(c)) : 1.0
    # The derivative of a saturated factor f s is f (J + s s').
    spread = part * Diagonal(w) * part' - ybar * ybar'
    J = -I(d) / sigma^2 + m^2 / sigma^4 * spread
    if regularizer === :tikhonov
        s, J = s * sigma^2 / (sigma^2 + c), J * sigma^2 / (sigma^2 + c)
    elseif regularizer in (:bayes_density, :bayes_weight)
        level = regularizer === :bayes_density ? log_density : log_weight
        f = factor(level)
        s, J = f * s, f * (J + (f < 1) * s * s')
    end
    return (score = s, denoised = (x + sigma^2 * s) / m, log_density = log_density, divergence = tr(J),
        entropy = -sum(p * log(p) for p in w if p > 0), nearest_index = rows[argmin(distance)],
        nearest_distance = minimum(distance), jacobian = J)
end

processes = [vp_linear() => [0.3, 0.6], ve_power() => [0.7, 2.0], flow() => [0.4, 0.8], sub_vp() => [0.3, 0.5]]
forms = [(NamedTuple(), NamedTuple()), ((regularizer = :tikhonov, strength = 0.3), (regularizer = :tikhonov, c = 0.3)),
    ((regularizer = :bayes_density, strength = 0.01), (regularizer = :bayes_density, c = 0.01)),
    ((regularizer = :bayes_weight, log_strength = 1.5), (regularizer = :bayes_weight, c = exp(1.5))),
    ((label = -1,), (rows = 2:3:N,)), ((label = 7, tolerance = 0), (rows = 3:3:N,))]
all_outputs = (:score, :denoised, :log_density, :divergence, :entropy, :nearest_index, :nearest_distance,
    :denoised_error_bound, :log_density_error_bound)

@testset "every output, $process" for (process, at) in processes
    x = randn(d, 2)
    v = randn(d, 2)
    marginal = evaluate(process, at)
    for (keywords, meaning) in forms
        score = empirical_score(data, process; keywords...)
        r = evaluate(score, x, at; outputs = all_outputs)
        J = jvp(score, x, at, v)
        single = evaluate(score, Float32.(x), at; outputs = [:score, :log_density])
        @test single.score isa Matrix{Float32} && single.log_density isa Vector{Float64}
        @test jvp(score, Float32.(x), at, Float32.(v)) ≈ J rtol = 1e-4
        for i in 1:2
            f = formulas(y, marginal.m[i], marginal.sigma[i], x[:, i]; meaning...)
            @test r.score[:, i] ≈ f.score rtol = 1e-9
            @test r.denoised[:, i] ≈ f.denoised rtol = 1e-9
            @test r.log_density[i] ≈ f.log_density atol = 1e-9
            @test r.divergence[i] ≈ f.divergence rtol = 1e-8
            @test r.entropy[i] ≈ f.entropy atol = 1e-9
            @test r.nearest_index[i] === f.nearest_index
            @test r.nearest_distance[i] ≈ f.nearest_distance rtol = 1e-12
            # The formulas here have errors of their own.
            @test norm(r.denoised[:, i] - f.denoised) - 1e-12 <= r.denoised_error_bound[i] < 1e-9
            @test abs(r.log_density[i] - f.log_density) - 1e-12 <= r.log_density_error_bound[i] < 1e-9
            @test J[:, i] ≈ f.jacobian * v[:, i] rtol = 1e-8
            @test single.score[:, i] ≈ f.score rtol = 1e-4
        end
    end
end

@testset "jvp in place" begin
    score = empirical_score(data, ve_power())
    x, v, out = randn(d, 2), randn(d, 2), zeros(d, 2)
    @test jvp!(out, score, x, 1.0, v) === out
    @test out == jvp(score, x, 1.0, v)
    refused(() -> jvp(score, x, 1.0, Float32.(v)), "MNEMO_E_DTYPE")
    refused(() -> jvp(score, x, 1.0, v[:, 1:1]), "MNEMO_E_SHAPE")
end

@testset "what is refused" begin
    edm = ve_power()
    @test occursin("5", refused(() -> empirical_score(data, edm; label = 5), "MNEMO_E_INVALID"))
    refused(() -> empirical_score(Dataset(y), edm; label = 4), "MNEMO_E_INVALID")
    refused(() -> empirical_score(data, edm; regularizer = :tikhonov, strength = -1), "MNEMO_E_INVALID")
    refused(() -> empirical_score(data, edm; regularizer = :bayes_weight), "MNEMO_E_INVALID")
    refused(() -> empirical_score(data, edm; tolerance = 2), "MNEMO_E_INVALID")
    @test occursin(":tikhonov", message(() -> empirical_score(data, edm; regularizer = :ridge), ArgumentError))
    @test_throws ArgumentError empirical_score(data, edm; label = 1.5)
    score = empirical_score(data, edm)
    refused(() -> evaluate(score, zeros(d, 1), 0), "MNEMO_E_INVALID")
    refused(() -> evaluate(score, zeros(d, 1), 81), "MNEMO_E_INVALID")
    said = refused(() -> evaluate(score, [0.0 1; 0 NaN; 0 0], 1), "MNEMO_E_INVALID")
    @test occursin("row 1, column 1", said)
end
