# SPDX-License-Identifier: MIT OR Apache-2.0
# Memory of a device as far as a machine without one can tell: nobody touches it here.

using Mnemo: ABI

Random.seed!(11)
data = Dataset(randn(2, 8))
score = empirical_score(data, ve_power())
x, out = randn(2, 3), zeros(2, 3)
far = DeviceArray{Float64}(0x1000, (2, 3); device = 3)
far_vector = DeviceArray{Float64}(0x1000, (3,))

@testset "it is described as it is" begin
    tensor = Mnemo.matrix("x", DeviceArray{Float32}(0x1000, (5, 4); stride = 8, device = 3)).value[]
    @test (UInt(tensor.data), tensor.rows, tensor.cols, tensor.row_stride) == (0x1000, 4, 5, 8)
    @test (tensor.dtype, tensor.device_type, tensor.device_id) == (1, 2, 3)
    tensor = Mnemo.vector("t", far_vector).value[]
    @test (tensor.rows, tensor.cols, tensor.row_stride, tensor.dtype) == (3, 1, 1, 2)
    @test size(far) == (2, 3) && eltype(far) == Float64
    @test sprint(show, far) == "2 × 3 DeviceArray{Float64} on CUDA device 3"
    @test_throws ArgumentError far[1, 1]
    @test_throws ArgumentError DeviceArray{Float64}(0x1000, (2, 3); stride = 1)
    @test_throws DimensionMismatch DeviceArray{Float64}(0x1000, (2, 3, 4))
end

@testset "it reaches the library, and a context of the CPU says which one it cannot use: $name" for (name, call) in [
    "x" => () -> evaluate(score, far, 1.0),
    "t" => () -> evaluate(score, x, far_vector),
    "outputs.score" => () -> evaluate!((score = far,), score, x, 1.0; stream = 0x40, check = true),
    "v" => () -> jvp!(out, score, x, 1.0, far),
    "out" => () -> jvp!(far, score, x, 1.0, x),
    "x_inout" => () -> sample!(far, score; stream = Ptr{Cvoid}(UInt(0x40))),
    "rows" => () -> Dataset(far),
    "out" => () -> gather!(far, data, [1, 2, 3]),
    "queries" => () -> nearest(data, far),
    "generated" => () -> memorization(data, far; threshold = 0.1),
]
    @test startswith(refused(call, "MNEMO_E_DEVICE"), "$name: a CUDA tensor, but its context computes on the CPU")
end

@testset "what cannot be" begin
    @test occursin("sample!", message(() -> sample(score, far), ArgumentError))
    index = DeviceArray{Int64}(0x1000, (1, 3))
    @test occursin("counts from 1", message(() -> nearest!((index = index,), data, x), ArgumentError))
    index = DeviceArray{Int64}(0x1000, (3,))
    @test occursin("counts from 1", message(() -> evaluate!((nearest_index = index,), score, x, 1.0), ArgumentError))
end

@testset "what callbacks are lent" begin
    tensor = Ref(ABI.mnemo_tensor(Ptr{Cvoid}(UInt(0x1000)), 3, 2, 0, 1, 2, 5, 0))
    GC.@preserve tensor begin
        lent = Mnemo.lent_matrix(Base.unsafe_convert(Ptr{ABI.mnemo_tensor}, tensor), Ptr{Cvoid}(UInt(0x40)))
        @test lent isa DeviceArray{Float32,2} && size(lent) == (2, 3)
        @test (lent.pointer, lent.stride, lent.device, lent.stream) == (0x1000, 2, 5, 0x40)
        vector = Mnemo.lent_vector(Base.unsafe_convert(Ptr{ABI.mnemo_tensor}, tensor), C_NULL)
        @test vector isa DeviceArray{Float32,1} && size(vector) == (3,) && vector.stream == 0
    end
    @test Mnemo.blank(far) === far
    seen = []
    model = Mnemo.Model((out, x, t) -> push!(seen, (out, x, t)), (out, x, t, v) -> push!(seen, (out, x, t, v)), false)
    user = Mnemo.root(model)
    GC.@preserve tensor begin
        p = Base.unsafe_convert(Ptr{ABI.mnemo_tensor}, tensor)
        @test Mnemo.evaluated(user, p, p, p, Ptr{Cvoid}(UInt(0x40))) && Mnemo.differentiated(user, p, p, p, p, Ptr{Cvoid}(UInt(0x40)))
    end
    model.dropped = true
    @test length.(seen) == [3, 4] && all(a -> a isa DeviceArray && a.stream == 0x40, Iterators.flatten(seen))
end
