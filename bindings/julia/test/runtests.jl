# SPDX-License-Identifier: MIT OR Apache-2.0
# The package's tests, or those of the files that are named. MNEMO_HEADER names the library's mnemo.h, MNEMO_FOLDER its
# folder; test.sh sets them.
using Mnemo, Test, Random, LinearAlgebra, Statistics
import Serialization

const PACKAGE = dirname(@__DIR__)
const ROOT = dirname(dirname(PACKAGE))
const HEADER = read(ENV["MNEMO_HEADER"], String)
const LIBRARY_FOLDER = ENV["MNEMO_FOLDER"]
const DIGITS = joinpath(ROOT, "examples", "data", "digits.npy")

Threads.nthreads() >= 2 || error("start Julia with two threads, JULIA_NUM_THREADS=2")

"What `f` throws; it must throw a `T`."
function thrown(f, ::Type{T}) where {T}
    try
        f()
    catch exception
        exception isa T || rethrow()
        return exception
    end
    error("nothing was thrown; a $T was expected")
end

"The message of the library's error of this status that `f` throws."
function refused(f, name)
    e = thrown(f, MnemoError)
    e.name == name || error("$name was expected: $(sprint(showerror, e))")
    return e.message
end

message(f, ::Type{T}) where {T} = sprint(showerror, thrown(f, T))

"Runs a program in a Julia of its own; returns whether it succeeded, and what it printed."
function child(program; environment...)
    withenv((string(k) => v for (k, v) in environment)...) do
        output = IOBuffer()
        command = `timeout 60 $(Base.julia_cmd()) --startup-file=no -e $program`
        ok = success(pipeline(command; stdin = devnull, stdout = output, stderr = output))
        return ok, String(take!(output))
    end
end

"x as an element of T, as the library stores it."
stored(T, x) = Float64.(T.(x))

const FILES = ["abi", "processes", "datasets", "arrays", "device", "scores", "samplers", "nearest", "handles", "callbacks", "threads",
    "programs"]

suite = @testset "Mnemo" begin
    for file in (isempty(ARGS) ? FILES : ARGS)
        @testset "$file" begin
            include("$file.jl")
        end
    end
end

passed(t::Test.DefaultTestSet) = t.n_passed + mapreduce(passed, +, t.results; init = 0)
passed(::Any) = 0
println("passed: ", passed(suite))
