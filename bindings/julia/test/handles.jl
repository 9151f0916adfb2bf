# SPDX-License-Identifier: MIT OR Apache-2.0

Random.seed!(6)
y = randn(3, 8)
fresh() = (context = Context(num_threads = 1); (context, ve_power(), Dataset(y; context)))

@testset "close" begin
    context, process, data = fresh()
    score = empirical_score(data, process)
    cancel = Cancel()
    for (x, use) in ((context, () -> describe(context)), (process, () -> evaluate(process, 1)), (data, () -> info(data)),
        (score, () -> sample(score, 1)), (cancel, () -> request!(cancel)))
        kind = string(nameof(typeof(x)))
        @test isopen(x) && startswith(sprint(show, x), "$kind(") && !occursin("closed", sprint(show, x))
        use()
        close(x)
        @test !isopen(x) && sprint(show, x) == "$kind(closed)"
        close(x)
        @test message(use, ArgumentError) == "ArgumentError: this Mnemo.$kind is closed"
    end
    @test occursin("Cancel is closed", message(() -> sample(empirical_score(Dataset(y), ve_power()), 1; cancel), ArgumentError))
end

@testset "what is shown" begin
    @test sprint(show, Dataset(y; labels = 1:8)) == "Dataset(8 rows of 3 f64, 8 labels)"
    @test sprint(show, empirical_score(Dataset(y), flow())) == "Score(dimension 3)"
end

@testset "an object keeps what it needs" begin
    context, process, data = fresh()
    score = empirical_score(data, process)
    before = sample(score, 3; seed = 1)
    foreach(close, (context, process, data))
    @test sample(score, 3; seed = 1) == before
end

@testset "close during a call waits for its end" begin
    context, process, data = fresh()
    score = empirical_score(data, process)
    cancel = Cancel()
    steps = 0
    x = sample(score, 2; seed = 1, cancel, observer = (step, t, x) -> begin
        foreach(close, (score, cancel, data, process, context))
        GC.gc()
        @test !isopen(score) && score.handle.released[] == cancel.handle.released[] == 0
        @test data.handle.released[] == 1
        steps += 1
    end)
    @test steps == 19 && score.handle.released[] == cancel.handle.released[] == 1
    @test x == sample(empirical_score(Dataset(y), ve_power()), 2; seed = 1)
end

@testset "a failed call lets go" begin
    context, process, data = fresh()
    score = empirical_score(data, process)
    refused(() -> evaluate(score, y, -1.0), "MNEMO_E_INVALID")
    refused(() -> empirical_score(data, process; tolerance = 3), "MNEMO_E_INVALID")
    close(process)
    @test_throws ArgumentError empirical_score(data, process)
    for x in (score, data, context)
        @test x.handle.state[] == 0
        close(x)
        @test x.handle.released[] == 1
    end
    @test process.handle.state[] == 1
end

@testset "copies and strangers" begin
    score = empirical_score(Dataset(y), ve_power())
    twin = deepcopy(score)
    @test twin.handle === score.handle
    close(twin)
    @test !isopen(score)
    io = IOBuffer()
    Serialization.serialize(io, ve_power())
    lost = Serialization.deserialize(seekstart(io))
    @test occursin("made in another process", message(() -> evaluate(lost, 1), ArgumentError))
    @test !isopen(lost)
    close(lost)
end

# Everything that was made is released once: counted by the custom models, which tell when they are dropped.
@testset "the garbage collector, in any order" begin
    alive() = count(m -> !m.dropped, Mnemo.MODELS)
    function settle()
        for _ in 1:10
            GC.gc()
            alive() == 0 && break
        end
        return alive()
    end
    settle()
    function make(n)
        made = Any[]
        for _ in 1:n
            context, process, data = fresh()
            model = custom_score((out, x, t) -> out .= x ./ 2, process, 3; prediction = :x0, context)
            append!(made, (context, process, data, empirical_score(data, process), model, Cancel()))
        end
        return shuffle!(made)
    end
    function churn()
        made = make(30)
        for i in eachindex(made)
            rand(Bool) && close(made[i])
            made[i] = nothing
            i % 20 == 0 && GC.gc()
        end
    end
    wait(@async churn()) # on a stack of its own, which holds nothing afterwards
    @test settle() == 0
    custom = custom_score((out, x, t) -> out .= 0, ve_power(), 3)
    @test length(Mnemo.MODELS) == 1 # the dropped ones have left
    GC.gc()
    @test size(sample(custom, 2)) == (3, 2)
    close(custom)
    @test alive() == 0
    refused(() -> custom_score(identity, ve_power(), 0), "MNEMO_E_INVALID")
    @test alive() == 0
end
