# SPDX-License-Identifier: MIT OR Apache-2.0
# What needs a process of its own: loading, Ctrl-C, a project that depends on the package.

@testset "loading" begin
    ok, output = child("using Mnemo"; MNEMO_LIBRARY = "/nowhere/libmnemo.so")
    @test !ok && occursin("/nowhere/libmnemo.so could not be loaded; MNEMO_LIBRARY is set to it", output)
    ok, output = child("using Mnemo"; MNEMO_LIBRARY = nothing, LD_LIBRARY_PATH = begin
        kept = split(get(ENV, "LD_LIBRARY_PATH", ""), ':')
        join(filter(folder -> !isfile(joinpath(folder, "libmnemo.so.0")), kept), ':')
    end)
    @test !ok && occursin("libmnemo.so.0 could not be loaded; install it", output)
    ok, output = child("using Mnemo; print(evaluate(flow(), 0.25).m)"; MNEMO_LIBRARY = joinpath(LIBRARY_FOLDER, "libmnemo.so"))
    @test ok && output == "0.75"
end

@testset "Ctrl-C" begin
    ok, output = child("""
        using Mnemo
        Base.exit_on_sigint(false)
        score = empirical_score(Dataset([1.0 2; 3 4]), ve_power())
        sample(score, 2)
        custom = custom_score((out, x, t) -> out .= x ./ 2, ve_power(), 2; prediction = :x0)
        sample(custom, 2)
        for s in (score, custom)
            try
                run(`sh -c "sleep 0.3; kill -INT \$(getpid())"`; wait = false)
                sample(s, 2; steps = 3_000_000, grid = :uniform_t)
                println("not stopped")
            catch e
                println(typeof(e))
            end
        end
        println(size(sample(score, 2)), size(sample(custom, 2)))
        """)
    @test ok && output == "InterruptException\nInterruptException\n(2, 2)(2, 2)\n"
end

# A native call that lasts until the collector has run in another thread. If the collector waited for it, so would both for ever.
@testset "the garbage collector does not wait for a call" begin
    ok, output = child("""
        using Mnemo
        ends, byte = Int32[0, 0], UInt8[0]
        ccall(:pipe, Int32, (Ptr{Int32},), ends)
        Threads.@threads for i in 1:2
            if i == 1
                GC.@preserve byte Mnemo.blocking(cglobal(:read), (ends[1], Ptr{Cvoid}(pointer(byte)), UInt64(1)))
            else
                Libc.systemsleep(0.5)
                GC.gc()
                ccall(:write, Int, (Int32, Ptr{UInt8}, UInt), ends[2], UInt8[42], 1)
            end
        end
        print("read ", byte[1])
        """)
    @test ok && output == "read 42"
end

@testset "a project that lists the package by its path" begin
    mktempdir() do folder
        project = joinpath(folder, "project")
        package = joinpath(project, "Constants")
        mkpath(joinpath(package, "src"))
        # No registry is needed; Pkg is content with an empty one.
        registry = joinpath(folder, "depot", "registries", "Empty")
        mkpath(registry)
        write(joinpath(registry, "Registry.toml"),
            "name = \"Empty\"\nuuid = \"6a6c1fd4-6f0e-4c4a-9f9d-3a3f3e1f6a01\"\nrepo = \"\"\n\n[packages]\n")
        # And a package that makes an object while it is precompiled: the pointer is not kept, and that is said.
        write(joinpath(package, "Project.toml"), """
            name = "Constants"
            uuid = "7be9b7a8-0b1f-4a5c-8a39-6f8a1c2f9b02"
            [deps]
            Mnemo = "0ccfff46-3de7-485e-83f4-0ee0e8e48ac8"
            """)
        write(joinpath(package, "src", "Constants.jl"), "module Constants\nusing Mnemo\nconst EDM = ve_power()\nend\n")
        ok, output = child("""
            using Pkg
            Pkg.activate($(repr(project)))
            Pkg.develop([PackageSpec(path = $(repr(PACKAGE))), PackageSpec(path = $(repr(package)))])
            using Mnemo, Constants
            print("time ", time_of_sigma(ve_power(), 3))
            try
                evaluate(Constants.EDM, 1)
            catch e
                print("; ", sprint(showerror, e))
            end
            finalize(Constants.EDM.handle)
            """; JULIA_DEPOT_PATH = joinpath(folder, "depot") * ":", JULIA_LOAD_PATH = nothing, JULIA_PROJECT = nothing)
        @test ok && endswith(output, "time 3.0; ArgumentError: this Mnemo.Process was made in another process") || println(output)
    end
end
