# SPDX-License-Identifier: MIT OR Apache-2.0

using Mnemo: ABI

const STRUCTS = [:error, :tensor, :exec, :context_options, :dataset_options, :dataset_info, :empirical_options, :score_ops,
    :score_outputs, :sampler_options, :memorization_options, :memorization_report]

function layout()
    io = IOBuffer()
    for name in STRUCTS
        T = getfield(ABI, Symbol(:mnemo_, name))
        println(io, "mnemo_", name, " ", sizeof(T))
        for i in 1:fieldcount(T)
            println(io, "  ", fieldname(T, i), " ", fieldoffset(T, i), " ", sizeof(fieldtype(T, i)))
        end
    end
    return String(take!(io))
end

@testset "the structs are those of the header" begin
    expected = read(joinpath(ROOT, "tests", "abi", "layout.txt"), String)
    layout() == expected || println("tests/abi/layout.txt and src/abi.jl differ: run `make abi`, then mend the binding")
    @test layout() == expected
end

@testset "the constants are those of the header" begin
    groups = Dict("ISA" => :instruction_set, "REG" => :regularizer, "PREDICT" => :prediction, "SOLVER" => :solver,
        "GRID" => :grid, "METRIC" => :metric)
    seen = 0
    for m in eachmatch(r"^#define MNEMO_([A-Z0-9_]+) (\d+)$"m, HEADER)
        name, number = m[1], parse(Int, m[2])
        group, rest = occursin('_', name) ? split(name, '_'; limit = 2) : (name, "")
        if haskey(groups, group)
            @test ABI.constant(groups[group], Symbol(lowercase(rest))) == number
        elseif name in ("CPU", "CUDA")
            @test ABI.constant(:device_type, Symbol(lowercase(name))) == number
        elseif name in ("ABI_MAJOR", "ABI_MINOR")
            @test number == (name == "ABI_MAJOR" ? ABI.MAJOR : ABI.MINOR)
        elseif group == "OK" || group == "E"
            @test Mnemo.status_name(number) == "MNEMO_$name"
            continue
        elseif name == "EXEC_CHECK"
            @test number == ABI.EXEC_CHECK
            continue
        else
            @test ABI.constant(:dtype, Symbol(lowercase(name))) == number
        end
        seen += 1
    end
    @test seen == sum(length, values(ABI.CONSTANTS)) + 2
end

@testset "every function is bound" begin
    source = join(read(joinpath(PACKAGE, "src", file), String) for file in readdir(joinpath(PACKAGE, "src")))
    for name in eachline(joinpath(ROOT, "tests", "abi", "symbols.txt"))
        @test occursin(Regex(":$name\\b"), source)
    end
end

@testset "another version is refused" begin
    packed(major, minor) = UInt32(major << 16 | minor)
    @test Mnemo.check_abi(packed(ABI.MAJOR, ABI.MINOR), "lib")
    @test Mnemo.check_abi(packed(ABI.MAJOR, ABI.MINOR + 1), "lib")
    @test occursin("lib has ABI version 0.1; this package needs 0.2", message(ErrorException) do
        Mnemo.check_abi(packed(0, 1), "lib")
    end)
    @test_throws ErrorException Mnemo.check_abi(packed(ABI.MAJOR + 1, ABI.MINOR), "lib")
    @test Mnemo.abi_version() >= VersionNumber(ABI.MAJOR, ABI.MINOR)
    @test Mnemo.version() isa VersionNumber
end

@testset "a constant that is none" begin
    said = message(() -> ABI.constant(:grid, :cosine), ArgumentError)
    @test occursin("grid is :cosine; it is one of :uniform_t, :uniform_s, :karras, :custom", said)
end

@testset "everything exported is documented" begin
    for name in names(Mnemo)
        text = string(Base.Docs.doc(Base.Docs.Binding(Mnemo, name)))
        @test !occursin("No documentation found", text)
    end
end
