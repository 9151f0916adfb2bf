# SPDX-License-Identifier: MIT OR Apache-2.0

primitive type BF16 16 end
Mnemo.dtype(::Type{BF16}) = :bf16
bf16(x::Float32) = reinterpret(BF16, UInt16(reinterpret(UInt32, x) >> 16))

Random.seed!(1)
y = rand(4, 6)

@testset "element types" begin
    for (T, name) in ((Float64, :f64), (Float32, :f32), (Float16, :f16))
        data = Dataset(T.(y))
        i = info(data)
        @test i.dtype === name && i.rows == 6 && i.dim == 4 && i.labels == 0
        @test (i.min, i.max) == extrema(stored(T, y))
        @test gather(data, 1:6) == stored(T, y)
    end
    bytes = rand(UInt8, 4, 6)
    data = Dataset(bytes; scale = 1 / 127.5, shift = -1)
    @test info(data).dtype === :u8
    @test gather(data, [6, 1, 1]) ≈ bytes[:, [6, 1, 1]] / 127.5 .- 1
    @test gather(Float32, data, 2:3) isa Matrix{Float32}
    halves = Float32[1 -2.5; 0.75 3]
    data = Dataset(bf16.(halves))
    @test info(data).dtype === :bf16
    @test gather(Float32, data, 1:2) == halves
end

@testset "the data are copied" begin
    mine = copy(y)
    data = Dataset(mine)
    fill!(mine, 0)
    @test gather(data, 1:6) == y
end

@testset "labels" begin
    for labels in (UInt8[1, 1, 2, 9, 9, 9], Int32[1, 1, 2, 9, 9, 9], [1, 1, 2, 9, 9, 9], Int16[1, 1, 2, 9, 9, 9], 11:16,
        view([1 1 2 9 9 9; 0 0 0 0 0 0], 1, :))
        @test info(Dataset(y; labels)).labels == length(unique(labels))
    end
    refused(() -> Dataset(y; labels = [1, 2]), "MNEMO_E_SHAPE")
    @test occursin("labels is a Array{Float64,1}", replace(message(() -> Dataset(y; labels = rand(6)), ArgumentError),
        "Vector{Float64}" => "Array{Float64,1}"))
end

@testset "files" begin
    data = Dataset(DIGITS)
    i = info(data)
    @test (i.rows, i.dim, i.min, i.max, i.dtype) == (1797, 64, 0.0, 16.0, :u8)
    scaled = Dataset(SubString(DIGITS, 1); scale = 1 / 8, shift = -1)
    @test gather(scaled, [1797]) == gather(data, [1797]) / 8 .- 1
    mktempdir() do folder
        # IDX: magic number, dimensions, bytes; here six labels.
        path = joinpath(folder, "labels-ü.idx")
        write(path, UInt8[0, 0, 8, 1, 0, 0, 0, 6, 3, 1, 3, 1, 3, 1])
        images = joinpath(folder, "images.idx")
        write(images, UInt8[0, 0, 8, 3, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 1:12...])
        data = Dataset(images; labels_path = path)
        @test info(data).labels == 2
        @test gather(data, [6]) == reshape([11, 12], 2, 1)
        e = thrown(() -> Dataset(joinpath(folder, "none.npy")), MnemoError)
        @test e.name == "MNEMO_E_IO" && e.native == Base.Libc.ENOENT && occursin("none.npy", e.message)
        @test occursin("(native error 2)", sprint(showerror, e))
        write(images, UInt8[0, 0, 8])
        refused(() -> Dataset(images), "MNEMO_E_IO")
        @test_throws ArgumentError Dataset("a\0b")
    end
end

@testset "gather" begin
    data = Dataset(y)
    out = fill(-1.0, 9, 3)
    @test gather!(view(out, 2:5, :), data, Int32[2, 3, 4]) == y[:, 2:4]
    @test all(==(-1), out[[1, 6, 7, 8, 9], :])
    @test size(gather(data, Int[])) == (4, 0)
    @test_throws BoundsError gather(data, [0])
    @test_throws BoundsError gather(data, [1, 7])
    refused(() -> gather!(zeros(3, 1), data, [1]), "MNEMO_E_SHAPE")
    refused(() -> gather(UInt8, data, [1]), "MNEMO_E_DTYPE")
end

@testset "what is refused" begin
    @test occursin("row 2, column 1", refused(() -> Dataset([1.0 2 3; 4 5 Inf]), "MNEMO_E_INVALID"))
    refused(() -> Dataset(zeros(3, 0)), "MNEMO_E_INVALID")
    refused(() -> Dataset(zeros(Int32, 3, 2)), "MNEMO_E_DTYPE")
    refused(() -> Dataset(y; scale = NaN), "MNEMO_E_INVALID")
    refused(() -> Dataset(y; context = Context(memory_limit = 8)), "MNEMO_E_NOMEM")
    @test_throws ArgumentError Dataset(["a" "b"])
    @test_throws ArgumentError Dataset(y; scale = "2")
    @test_throws DimensionMismatch Dataset(rand(4))
    @test_throws DimensionMismatch Dataset(rand(2, 2, 4))
end

@testset "contexts" begin
    portable = Context(num_threads = 1, instruction_set = :portable, kernel_cache_dir = SubString("cache", 1))
    json = describe(portable)
    @test occursin("\"backend\":\"cpu\"", json) && occursin("\"threads\":1", json)
    @test occursin("\"instruction_set\":\"portable\"", json)
    @test warm_up(portable) === nothing
    data = Dataset(y; context = portable)
    @test gather(data, 1:6) == gather(Dataset(y), 1:6)
    refused(() -> Context(device_type = :cuda, device_id = 4096), "MNEMO_E_DEVICE")
    @test_throws ArgumentError Context(instruction_set = :neon)
    @test_throws ArgumentError Context(num_threads = -1)
    shared = Mnemo.shared_context()
    @test Mnemo.shared_context() === shared
    close(shared)
    @test isopen(Mnemo.shared_context()) && Mnemo.shared_context() !== shared
    @test gather(Dataset(y), 1:6) == y
end
