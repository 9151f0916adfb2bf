# SPDX-License-Identifier: MIT OR Apache-2.0

Random.seed!(8)
y = randn(3, 30)
data = Dataset(y)
edm = ve_power()
score = empirical_score(data, edm)

@testset "errors of threads do not mix" begin
    wrong = zeros(Int, 400)
    Threads.@threads for i in 1:400
        told = try
            evaluate(score, y, -Float64(i))
        catch e
            sprint(showerror, e)
        end
        occursin("-$i.0", told) || (wrong[i] = 1)
        i % 50 == 0 && GC.gc(false)
    end
    @test sum(wrong) == 0
    # However the threads are timed: the error of one call is whole after another's.
    out = Ref(C_NULL)
    first = Mnemo.status(:mnemo_process_ve_power, 0.0, 1.0, 80.0, out)
    Mnemo.status(:mnemo_process_ve_power, 2.0, 1.0, -5.0, out)
    @test occursin("k is 0", refused(() -> Mnemo.check(first...), "MNEMO_E_INVALID"))
end

@testset "one score, many threads" begin
    custom = custom_score(edm, 3; prediction = :x0) do out, x, t
        out .= x ./ 2
        rand() < 0.05 && GC.gc(false)
    end
    expected = [(sample(score, 2; seed), sample(custom, 2; seed)) for seed in 1:20]
    results = Vector{Any}(undef, 20)
    Threads.@threads for seed in 1:20
        results[seed] = (sample(score, 2; seed), sample(custom, 2; seed))
    end
    @test results == expected
end

@testset "two contexts, made and released by many threads" begin
    contexts = [Context(num_threads = n) for n in 1:2]
    expected = sample(score, 3; seed = 1)
    results = Vector{Any}(undef, 40)
    Threads.@threads for i in 1:40
        own = Dataset(y; context = contexts[i%2+1])
        s = empirical_score(own, edm)
        rand(Bool) && close(own)
        results[i] = sample(s, 3; seed = 1)
        rand(Bool) && close(s)
        i % 10 == 0 && GC.gc()
    end
    @test all(==(expected), results)
end

@testset "exceptions of callbacks in threads" begin
    function number(i)
        observer(step, t, x) = step == 3 && (yield(); error("number $i"))
        try
            sample(score, 1; observer)
        catch e
            return e.msg
        end
    end
    tasks = [Threads.@spawn(number(i)) for i in 1:40]
    @test fetch.(tasks) == ["number $i" for i in 1:40]
end

@testset "a callback stays in its thread" begin
    function ids()
        seen = Int[]
        mine = current_task()
        sticky = Bool[]
        sample(score, 1; observer = (step, t, x) -> begin
            push!(seen, Threads.threadid())
            yield()
            push!(seen, Threads.threadid())
            push!(sticky, mine.sticky)
        end)
        return length(unique(seen)) == 1 && all(sticky)
    end
    @test all(fetch.([Threads.@spawn(ids()) for _ in 1:20]))
end

# Bounded, so that a cancel that does not work is a failure and no wait for ever.
@testset "cancel" begin
    stopped(f) = refused(f, "MNEMO_E_CANCELLED")
    cancel = Cancel()
    x = fill(9.0, 3, 2)
    # From another task of this thread, which runs when the call lets it.
    other = @async request!(cancel)
    stopped(() -> sample!(x, score; steps = 100000, cancel, progress = (done, total) -> yield()))
    @test all(==(9), x)
    stopped(() -> nearest(data, y; cancel))
    reset!(cancel)
    @test_throws TypeError nearest(data, y; cancel = true)
    @test size(nearest(data, y; cancel).index) == (1, 30)
    # From a thread beside, with the garbage collector at work.
    begun = Threads.Atomic{Bool}(false)
    results = Vector{Any}(undef, 2)
    Threads.@threads for i in 1:2
        if i == 1
            results[1] = try
                sample(score, 2; steps = 300000, cancel, observer = (step, t, x) -> begun[] = true)
            catch e
                e
            end
        else
            while !begun[]
                GC.safepoint()
            end
            GC.gc()
            request!(cancel)
            results[2] = true
        end
    end
    @test results[1] isa MnemoError && results[1].name == "MNEMO_E_CANCELLED" && results[2]
end
