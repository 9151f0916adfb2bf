# SPDX-License-Identifier: MIT OR Apache-2.0
# CUDA contexts on device 0, or a stand-in for it: see test-cuda.sh.

driver(name, types, values...) = @eval begin
    code = ccall(($(QuoteNode(name)), "libcuda.so.1"), Cint, ($(types...),), $(values...))
    code == 0 || error($(string(name)), ": ", code)
end

driver(:cuInit, (Cuint,), 0)
primary = Ref(C_NULL)
driver(:cuDevicePrimaryCtxRetain, (Ptr{Ptr{Cvoid}}, Cint), primary, 0)
driver(:cuCtxSetCurrent, (Ptr{Cvoid},), primary[])

function new_stream()
    stream = Ref(C_NULL)
    driver(:cuStreamCreate, (Ptr{Ptr{Cvoid}}, Cuint), stream, 1)
    return stream[]
end

function put!(a::DeviceArray, values, stream = C_NULL)
    driver(:cuMemcpyHtoDAsync_v2, (UInt, Ptr{Cvoid}, Csize_t, Ptr{Cvoid}), a.pointer, values, sizeof(values), stream)
    driver(:cuStreamSynchronize, (Ptr{Cvoid},), stream)
    return a
end

"A copy on the device, which stays for good."
function there(values)
    address = Ref(UInt(0))
    driver(:cuMemAlloc_v2, (Ptr{UInt}, Csize_t), address, sizeof(values))
    return put!(DeviceArray{eltype(values)}(address[], size(values)), values)
end

function fetched(a::DeviceArray, stream = Ptr{Cvoid}(a.stream))
    values = Array{eltype(a)}(undef, size(a))
    driver(:cuMemcpyDtoHAsync_v2, (Ptr{Cvoid}, UInt, Csize_t, Ptr{Cvoid}), values, a.pointer, sizeof(values), stream)
    driver(:cuStreamSynchronize, (Ptr{Cvoid},), stream)
    return values
end

cuda = Context(device_type = :cuda, kernel_cache_dir = mktempdir())
x, at, edm = randn(2, 3), [0.5, 1.0, 2.0], ve_power()
half(x, t) = 0.5 ./ (0.5 .+ t' .^ 2) .* x

@testset "the context" begin
    @test warm_up(cuda) === nothing
    @test occursin("\"backend\":\"cuda\"", describe(cuda)) && occursin("\"not_loaded\":0", describe(cuda))
end

@testset "data from either memory" begin
    for given in (x, there(x))
        data, out = Dataset(given; context = cuda), there(zeros(2, 2))
        @test gather(data, [3, 1]) == x[:, [3, 1]]
        @test fetched(gather!(out, data, [3, 1])) == x[:, [3, 1]]
    end
end

streams = []
score = custom_score(edm, 2; prediction = :x0, context = cuda,
    jvp = (out, x, t, v) -> put!(out, half(fetched(v), fetched(t)), Ptr{Cvoid}(out.stream))) do out, x, t
    push!(streams, out.stream)
    put!(out, half(fetched(x), fetched(t)), Ptr{Cvoid}(out.stream))
end

@testset "a model is lent device memory" begin
    for stream in (C_NULL, new_stream())
        empty!(streams)
        out = there(zeros(2, 3))
        evaluate!((denoised = out,), score, there(x), at; stream)
        @test fetched(out, stream) ≈ half(x, at)
        @test streams == [UInt(stream)]
        v = randn(2, 3)
        jvp!(out, score, there(x), at, there(v); stream)
        @test all(isfinite, fetched(out, stream))
    end
    @test evaluate(score, x, at; outputs = :denoised).denoised ≈ half(x, at)
end

@testset "samples in place and observed" begin
    states, on_device = [], there(x)
    sample!(on_device, score; steps = 3, observer = (step, t, x) -> push!(states, fetched(x)))
    @test length(states) == 4 && states[1] == x && fetched(on_device) == states[end] == sample(score, x; steps = 3)
end

@testset "what is refused" begin
    wrong = there([1.0 NaN; 3 4])
    @test startswith(refused(() -> evaluate!((score = wrong,), score, wrong, 1.0; check = true), "MNEMO_E_INVALID"), "x: row 1")
    elsewhere = DeviceArray{Float64}(wrong.pointer, (2, 2); device = 1)
    @test occursin("on CUDA device 1", refused(() -> evaluate!((score = wrong,), score, elsewhere, 1.0), "MNEMO_E_DEVICE"))
end
