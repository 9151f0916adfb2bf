# SPDX-License-Identifier: MIT OR Apache-2.0
# Arrays as the library sees them, without a copy: a d × n matrix is n rows of d numbers.

"""
    Mnemo.dtype(T)

The element type of the library for the Julia type `T`: `:f32`, `:f64`, `:f16`, `:u8`, `:i32`, `:i64`, or `:bf16` for
`Core.BFloat16` where Julia has it. A package with a 16-bit bfloat16 type of its own may add a method.
"""
dtype(::Type{Float32}) = :f32
dtype(::Type{Float64}) = :f64
dtype(::Type{Float16}) = :f16
dtype(::Type{UInt8}) = :u8
dtype(::Type{Int32}) = :i32
dtype(::Type{Int64}) = :i64
dtype(::Type{T}) where {T} = throw(ArgumentError("Mnemo has no element type for $T; convert, as in Float32.(x)"))
@static if isdefined(Core, :BFloat16)
    dtype(::Type{Core.BFloat16}) = :bf16
end

struct Tensor
    value::Base.RefValue{ABI.mnemo_tensor}
    array::Any
end

address(t::Tensor) = address(t.value)

function Tensor(array, rows::Integer, cols, row_stride)
    kind = ABI.constant(:dtype, dtype(eltype(array)))
    data = Ptr{Cvoid}(pointer(array))
    return Tensor(Ref(ABI.mnemo_tensor(data, rows, cols, row_stride, kind, ABI.constant(:device_type, :cpu), 0, 0)), array)
end

"The matrix `x` as a tensor; `name` is for errors."
function matrix(name, x)
    x isa AbstractMatrix || throw(DimensionMismatch(
        "$name has $(ndims(x)) dimensions; it is a matrix whose columns are the samples: reshape(x, d, :)"))
    strided(name, x)
    d, n = size(x)
    d < 2 || stride(x, 1) == 1 ||
        throw(ArgumentError("$name: the elements of a column are $(stride(x, 1)) apart in memory; pass a copy, as Array(x)"))
    n < 2 || stride(x, 2) >= d ||
        throw(ArgumentError("$name: the columns are $(stride(x, 2)) apart in memory, with $d elements; pass a copy, as Array(x)"))
    return Tensor(x, n, d, n < 2 ? 0 : stride(x, 2))
end

"The vector `x` as a tensor."
function vector(name, x)
    x isa AbstractVector || throw(DimensionMismatch("$name has $(ndims(x)) dimensions; it is a vector"))
    strided(name, x)
    n = length(x)
    n < 2 || stride(x, 1) >= 1 || throw(ArgumentError("$name runs backwards in memory; pass a copy, as Array(x)"))
    return Tensor(x, n, 1, n < 2 ? 0 : stride(x, 1))
end

strided(name, x) = x isa StridedArray || throw(ArgumentError(
    "$name is a $(typeof(x)), whose elements are not at regular places in memory; pass a copy, as Array(x)"))

"Numbers that the library wants as float64: one or many."
floats(x::Real) = [Float64(x)]
floats(x::AbstractVector{<:Real}) = convert(Vector{Float64}, x)

"Times of samples: one for all, or one for each."
times(t::StridedVector{<:Union{Float32,Float64}}) = vector("t", t)
times(t) = vector("t", floats(t))

# What a callback is lent: float32 or float64, rows next to each other.
lent(t::ABI.mnemo_tensor) =
    t.dtype == ABI.CONSTANTS.dtype.f32 ? Ptr{Float32}(t.data) : Ptr{Float64}(t.data)
lent_matrix(t::Ptr{ABI.mnemo_tensor}, stream) = (v = unsafe_load(t); lent_array(v, stream, (Int(v.cols), Int(v.rows))))
lent_vector(t::Ptr{ABI.mnemo_tensor}, stream) = (v = unsafe_load(t); lent_array(v, stream, (Int(v.rows),)))
lent_array(v, stream, size) =
    v.device_type == ABI.CONSTANTS.device_type.cpu ? unsafe_wrap(Array, lent(v), size) : lent_device(v, stream, size)
