# SPDX-License-Identifier: MIT OR Apache-2.0

struct Boom <: Exception
    number::Int
end

Random.seed!(7)
process = vp_linear()
center, variance = randn(3), 0.7
data = Dataset(randn(3, 8))
exact = empirical_score(data, process)
x = randn(3, 5)
at = [0.2, 0.4, 0.6, 0.8, 1.0]
edm = ve_power()
half(out, x, t) = out .= x ./ 2

# The score of a normal distribution, -(x - m center) / (m² variance + sigma²), in every form that a model may predict.
function predictions(x, t)
    p = evaluate(process, t; outputs = (:m, :sigma))
    m, sigma = p.m', p.sigma'
    s = .-(x .- m .* center) ./ (m .^ 2 .* variance .+ sigma .^ 2)
    eps, x0 = .-sigma .* s, (x .+ sigma .^ 2 .* s) ./ m
    return (score = s, eps = eps, x0 = x0, v = m .* eps .- sigma .* x0, flow = eps .- x0)
end

@testset "prediction $name" for name in (:score, :eps, :x0, :v, :flow)
    score = custom_score(process, 3; prediction = name,
        jvp = (out, x, t, v) -> out .= predictions(x .+ v, t)[name] .- predictions(x, t)[name]) do out, x, t
        @assert x isa Matrix && t isa Vector{Float64} && size(x, 2) == length(t)
        out .= predictions(x, t)[name]
    end
    r = evaluate(score, x, at; outputs = (:score, :denoised))
    truth = predictions(x, at)
    @test r.score ≈ truth.score rtol = 1e-9
    @test r.denoised ≈ truth.x0 rtol = 1e-9
    v = randn(3, 5)
    @test jvp(score, x, at, v) ≈ predictions(x .+ v, at).score .- truth.score rtol = 1e-9
    single = evaluate(score, Float32.(x), Float32.(at))
    @test single.score isa Matrix{Float32}
    @test single.score ≈ truth.score rtol = 1e-4
end

@testset "a model may use the library" begin
    denoiser = custom_score(process, 3; prediction = :x0) do out, x, t
        evaluate!((denoised = out,), exact, x, t)
    end
    @test sample(denoiser, 4; seed = 2, t_end = 0.1) ≈ sample(exact, 4; seed = 2, t_end = 0.1) rtol = 1e-6
end

@testset "what is refused" begin
    score = custom_score(half, process, 3)
    @test occursin("log_density", refused(() -> evaluate(score, x, at; outputs = :log_density), "MNEMO_E_UNSUPPORTED"))
    @test occursin("jvp", refused(() -> jvp(score, x, at, x), "MNEMO_E_UNSUPPORTED"))
    @test_throws ArgumentError custom_score(half, process, 3; prediction = :noise)
    forgetful = custom_score((out, x, t) -> 2 .* x, process, 3) # returns what it should write
    e = thrown(() -> evaluate(forgetful, x, at), MnemoError)
    @test e.name == "MNEMO_E_CALLBACK" && occursin("NaN", e.message)
end

@testset "an exception comes out as it went in" begin
    thrower(out, x, t) = throw(Boom(size(x, 2)))
    broken = custom_score(thrower, process, 3; jvp = (out, x, t, v) -> throw(Boom(40)))
    kept = copy(x)
    calls = [() -> evaluate(broken, x, at) => 5, () -> jvp(broken, x, at, x) => 40, () -> sample!(x, broken) => 5,
        () -> sample!(x, exact; observer = (step, t, x) -> step == 2 && throw(Boom(41))) => 41,
        () -> sample!(x, exact; progress = (done, total) -> throw(Boom(42))) => 42,
        () -> nearest(data, x; progress = (done, total) -> throw(Boom(43))) => 43,
        () -> evaluate(exact, x, at; progress = (done, total) -> throw(Boom(44))) => 44]
    for (call, number) in zip(calls, (5, 40, 5, 41, 42, 43, 44))
        @test thrown(call, Boom) == Boom(number)
        @test x == kept
        @test size(sample(exact, 1; t_end = 0.1)) == (3, 1) # usable as before
    end
    # Its own backtrace is in the stack of exceptions, below it.
    stack = try
        evaluate(broken, x, at)
    catch
        isdefined(Base, :current_exceptions) ? Base.current_exceptions() : Base.catch_stack()
    end
    @test length(stack) == 2 && last(stack)[1] == Boom(5)
    @test occursin("thrower", sprint(showerror, first(stack)[1]))
end

@testset "errors of nested calls" begin
    # The library's own error, from a call inside a callback, inside a callback.
    inner = custom_score((out, x, t) -> evaluate(exact, x, -1.0), process, 3)
    outer = custom_score((out, x, t) -> (evaluate(inner, x, t); out .= 0), process, 3)
    @test occursin("-1", refused(() -> sample(outer, 1), "MNEMO_E_INVALID"))
    # One that the callback handles is gone.
    steadfast = custom_score(process, 3) do out, x, t
        @test_throws MnemoError evaluate(inner, x, t)
        out .= .-x
    end
    @test evaluate(steadfast, x, at).score == .-x
    # Of two, the first counts.
    @test thrown(Boom) do
        sample(custom_score((out, x, t) -> throw(Boom(1)), process, 3), 1; observer = (s, t, x) -> s > 0 && throw(Boom(2)))
    end == Boom(1)
    # Deep recursion in a callback.
    deep(n) = n == 0 ? 0 : 1 + deep(n + 1)
    @test thrown(() -> evaluate(custom_score((out, x, t) -> out .= deep(1), process, 3), x, at), StackOverflowError) isa Any
end

@testset "callbacks leave the task as it was, and may let others run" begin
    task = current_task()
    for before in (true, false)
        task.sticky = before
        inside = []
        sample(exact, 1; t_end = 0.1, observer = (step, t, x) -> push!(inside, task.sticky))
        thrown(() -> sample(exact, 1; observer = (step, t, x) -> throw(Boom(0))), Boom)
        @test all(inside) && task.sticky == before
    end
    task.sticky = true
    # Calls of two tasks, each let go in the middle of the other.
    order = Int[]
    function run(number)
        score = custom_score(edm, 3; prediction = :x0) do out, x, t
            push!(order, number)
            yield()
            GC.gc(false)
            out .= x ./ (number + 1)
        end
        return sample(score, 2; seed = number)
    end
    expected = [sample(custom_score((out, x, t) -> out .= x ./ (n + 1), edm, 3; prediction = :x0), 2; seed = n) for n in 1:3]
    tasks = [@async run(n) for n in 1:3]
    @test fetch.(tasks) == expected
    @test !issorted(order)
    # What one of them throws is its own.
    good = @async run(1)
    bad = @async sample(custom_score((out, x, t) -> (yield(); throw(Boom(9))), edm, 3), 1)
    @test fetch(good) == expected[1]
    @test thrown(() -> fetch(bad), TaskFailedException).task.exception == Boom(9)
end

@testset "memory lives through a call" begin
    litter(_...) = (GC.gc(); [fill(NaN, 3, 5) for _ in 1:2000]; true)
    custom = custom_score((out, x, t) -> (litter(); out .= x ./ 2), edm, 3; prediction = :x0,
        jvp = (out, x, t, v) -> (litter(); out .= v .* t'))
    @test evaluate(custom, copy(x), copy(at)).score ≈ .-x ./ 2 ./ at' .^ 2
    @test jvp(custom, copy(x), copy(at), copy(x)) ≈ x .* (at' .- 1) ./ at' .^ 2
    plain = sample(exact, x; times = [0.9, 0.5, 0.1])
    @test sample(exact, copy(x); times = [0.9, 0.5, 0.1], observer = litter, progress = litter) == plain
    @test nearest(data, copy(x); k = 2, progress = litter) == nearest(data, x; k = 2)
    @test evaluate(exact, copy(x), copy(at); outputs = (:score, :entropy), progress = litter) ==
          evaluate(exact, x, at; outputs = (:score, :entropy))
    @test occursin("-3.0", refused(() -> evaluate(custom, copy(x), -3.0; progress = litter), "MNEMO_E_INVALID"))
end

@testset "models defined after the package was loaded, and closures" begin
    scale = Ref(0.5)
    score = custom_score((out, x, t) -> out .= scale[] .* x, edm, 3)
    @test evaluate(score, x, 1).score == x ./ 2
    scale[] = 2.0
    GC.gc()
    @test evaluate(score, x, 1).score == 2x
    @eval later(out, x, t) = (out .= 3 .* x)
    @test evaluate(custom_score(Base.invokelatest(() -> later), edm, 3), x, 1).score == 3x
end
