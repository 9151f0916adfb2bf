# SPDX-License-Identifier: MIT OR Apache-2.0

Random.seed!(4)
y = 2 .* randn(3, 8)
data = Dataset(y)
edm = ve_power()
exact = empirical_score(data, edm)

copies(x) = all(nearest(data, x).distance .< 0.05)

@testset "every solver samples the training set" begin
    for solver in keys(Mnemo.ABI.CONSTANTS.solver)
        x = sample(exact, 5; solver, steps = 60, seed = 3)
        @test size(x) == (3, 5) && copies(x)
    end
    for grid in (:uniform_s, :karras)
        @test copies(sample(exact, 4; grid, steps = 40, seed = 1))
    end
    @test copies(sample(empirical_score(data, flow()), randn(3, 4); grid = :uniform_t, steps = 60, t_end = 0.002))
    @test copies(sample(exact, 4; times = 80 .* (0.9 .^ (0:120)), seed = 1))
    @test copies(sample(exact, 4; times = [80 .* (0.9 .^ (0:100)); 0], seed = 1))
end

@testset "the Karras step in Julia" begin
    steps, rho = 18, 7
    at = [(80^(1 / rho) + i / (steps) * (0.002^(1 / rho) - 80^(1 / rho)))^rho for i in 0:steps]
    slope(x, t) = -t .* evaluate(exact, x, t).score
    x = start = 80 .* randn(3, 4)
    for i in 1:steps
        h = at[i+1] - at[i]
        first = slope(x, at[i])
        x = x + h / 2 * (first + slope(x + h * first, at[i+1]))
    end
    @test sample(exact, start) ≈ x rtol = 1e-9
    @test sample(exact, start; solver = :heun, grid = :karras, steps = 18, rho = 7, t_start = 80, t_end = 0.002) ==
          sample(exact, start)
end

@testset "options arrive" begin
    start = 80 .* randn(3, 4)
    plain = sample(exact, start; solver = :edm_stochastic, seed = 1)
    for change in ((s_churn = 40,), (s_churn = 40, s_noise = 1.01), (s_churn = 40, s_min = 1), (s_churn = 40, s_max = 1),
        (rho = 3,), (steps = 9,), (t_end = 0.1,), (t_start = 40,), (denoise_last = true,), (grid = :uniform_s,))
        @test sample(exact, start; solver = :edm_stochastic, seed = 1, change...) != plain
    end
    for (solver, change) in ((:euler_maruyama, (alpha2 = 0.5,)), (:exponential, (eta = 0.5,)), (:ancestral, (eta = 0.5,)),
        (:rk45, (rtol = 1e-2,)), (:rk45, (atol = 1e-1,)), (:ancestral, (first_sample = 9,)), (:ancestral, (seed = 2,)))
        @test sample(exact, start; solver, change...) != sample(exact, start; solver)
    end
end

@testset "reproducible" begin
    x = sample(exact, 6; seed = 11)
    @test x == sample(exact, 6; seed = 11) != sample(exact, 6; seed = 12)
    @test x == hcat(sample(exact, 2; seed = 11), sample(exact, 4; seed = 11, first_sample = 2))
    single = sample(Float32, exact, 6; seed = 11)
    @test single isa Matrix{Float32}
    @test single ≈ x rtol = 1e-5
    alone = Context(num_threads = 1)
    @test x == sample(empirical_score(Dataset(y; context = alone), edm), 6; seed = 11)
end

@testset "in place" begin
    start = 80 .* randn(3, 4)
    kept = copy(start)
    result = sample(exact, start)
    @test start == kept
    room = fill(-7.0, 5, 4)
    room[2:4, :] = start
    x = view(room, 2:4, :)
    @test sample!(x, exact) === x
    @test x == result && all(==(-7), room[[1, 5], :])
    @test sample!(fill(NaN, 3, 2), exact; from_prior = true, seed = 5) == sample(exact, 2; seed = 5)
    @test size(sample(exact, 0)) == (3, 0)
end

@testset "observer" begin
    seen = []
    x = sample(Float32, exact, 2; seed = 1, steps = 5, observer = (step, t, x) -> push!(seen, (step, t, copy(x))))
    @test [s[1] for s in seen] == 0:5
    @test seen[1][2] == 80 && seen[end][2] ≈ 0.002 && issorted([s[2] for s in seen]; rev = true)
    @test seen[1][3] isa Matrix{Float32} && seen[end][3] == x
end

@testset "progress" begin
    seen = []
    sample(exact, 2; steps = 5, progress = (done, total) -> push!(seen, (done, total)))
    @test issorted(seen) && seen[end][1] == seen[end][2] && length(seen) >= 5
    told = 0
    nearest(data, y; progress = (done, total) -> (told += 1; nothing))
    evaluate(exact, y, 1.0; progress = (done, total) -> (told += 1; true))
    memorization(data, y; threshold = 1, progress = (done, total) -> (told += 1))
    jvp(exact, y, 1.0, y; progress = (done, total) -> (told += 1))
    @test told >= 4
    x = fill(3.0, 3, 2)
    refused(() -> sample!(x, exact; progress = (done, total) -> done < 3), "MNEMO_E_CANCELLED")
    @test all(==(3), x)
end

@testset "what is refused" begin
    @test occursin("no option solvr", message(() -> sample(exact, 1; solvr = :heun), ArgumentError))
    @test occursin("no option struct_size", message(() -> sample(exact, 1; struct_size = 3), ArgumentError))
    @test occursin(":dpmpp_2m", message(() -> sample(exact, 1; solver = :dpm), ArgumentError))
    @test_throws ArgumentError sample(exact, 1; steps = 2.5)
    @test_throws DimensionMismatch sample(exact, [1.0, 2, 3])
    refused(() -> sample(exact, 1; steps = 0), "MNEMO_E_INVALID")
    refused(() -> sample(exact, 1; t_start = 90), "MNEMO_E_INVALID")
    refused(() -> sample(exact, 1; times = [1.0, 2.0]), "MNEMO_E_INVALID")
    refused(() -> sample(exact, 1; grid = :custom), "MNEMO_E_INVALID")
    refused(() -> sample(exact, zeros(2, 1)), "MNEMO_E_SHAPE")
    refused(() -> sample(exact, 1; solver = :heun, alpha2 = 1), "MNEMO_E_UNSUPPORTED")
    refused(() -> sample(exact, zeros(Int, 3, 1)), "MNEMO_E_DTYPE")
end
