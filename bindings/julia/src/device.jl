# SPDX-License-Identifier: MIT OR Apache-2.0
# Memory of a CUDA device, for contexts that compute there.

"""
    DeviceArray{T}(pointer, size; stride, device = 0)

A matrix d × n, whose columns are the samples, or a vector of n, in the memory of CUDA device `device`, used where it is by
what was made on a context of that device: `DeviceArray{Float32}(UInt(pointer(a)), size(a))` of a `CuArray`. `stride` is the
number of elements from one column (of a vector: element) to the next. The memory must stay until the `stream` of the call has
passed.

On such a context the functions of a custom score are given `DeviceArray`s, and so is an `observer` if x is one; they queue their
work on the field `stream`, that of the call, an address. `unsafe_wrap(CuArray, CuPtr{T}(a.pointer), a.size)` is such an array
to CUDA.jl.
"""
struct DeviceArray{T,N} <: AbstractArray{T,N}
    pointer::UInt
    size::NTuple{N,Int}
    stride::Int
    device::Int32
    stream::UInt
    function DeviceArray{T}(pointer, size::Tuple; stride = length(size) == 2 ? size[1] : 1, device = 0, stream = 0) where {T}
        length(size) in (1, 2) || throw(DimensionMismatch("a DeviceArray is a matrix or a vector, not of $(length(size)) dimensions"))
        stride >= (length(size) == 2 ? size[1] : 1) || throw(ArgumentError("the stride is $stride: its columns would overlap"))
        return new{T,length(size)}(UInt(pointer), size, stride, device, UInt(stream))
    end
end

Base.size(x::DeviceArray) = x.size
Base.getindex(x::DeviceArray, ::Int...) = throw(ArgumentError("a $(typeof(x)) is in the memory of a device; copy it to the host first"))
Base.show(io::IO, x::DeviceArray{T}) where {T} = print(io, join(x.size, " × "), " DeviceArray{", T, "} on CUDA device ", x.device)
Base.show(io::IO, ::MIME"text/plain", x::DeviceArray) = show(io, x)

function device_tensor(x::DeviceArray, rows, cols)
    kinds = ABI.constant(:dtype, dtype(eltype(x))), ABI.constant(:device_type, :cuda)
    return Tensor(Ref(ABI.mnemo_tensor(Ptr{Cvoid}(x.pointer), rows, cols, rows < 2 ? 0 : x.stride, kinds..., x.device, 0)), x)
end

matrix(name, x::DeviceArray{T,2}) where {T} = device_tensor(x, x.size[2], x.size[1])
vector(name, x::DeviceArray{T,1}) where {T} = device_tensor(x, x.size[1], 1)
times(t::DeviceArray) = vector("t", t)

"Indices count from 1, which is done here, in the memory of the host."
counted(name, x) = x
counted(name, ::DeviceArray) = throw(ArgumentError("$name must be in the host's memory, for it counts from 1"))

function lent_device(v::ABI.mnemo_tensor, stream, size)
    T = v.dtype == ABI.CONSTANTS.dtype.f32 ? Float32 : Float64
    return DeviceArray{T}(UInt(v.data), size; device = v.device_id, stream = UInt(stream))
end
