# SPDX-License-Identifier: MIT OR Apache-2.0

"""
    Dataset(x; labels = nothing, scale = 1, shift = 0, context)
    Dataset(path; labels_path = nothing, scale = 1, shift = 0, context)

Training rows, kept in their own element type: a copy of the columns of the matrix `x`, d × n of `Float32`, `Float64`,
`Float16` or `UInt8`; or the contents of a file, `.npy` or IDX (MNIST's format), plain or gzip, whose first dimension is n
and whose others are flattened to d.

`labels` is a vector of n integers, `labels_path` a file of them. A value is `scale` * raw + `shift`: for 8-bit images in
[-1, 1], 1/127.5 and -1. Immutable: any thread may use it. See [`info`](@ref), [`gather`](@ref).

Errors: `MNEMO_E_IO` for a file that is not there or not what its header says; `MNEMO_E_INVALID` for NaN and Inf.
"""
struct Dataset <: Resource
    handle::Handle
end

dataset(create, @nospecialize(args...)) = Dataset(Handle(:Dataset, :mnemo_dataset_release, create, args...))

function Dataset(x::AbstractArray; labels = nothing, scale = nothing, shift = nothing, context::Context = shared_context())
    chosen = options(ABI.mnemo_dataset_options, :mnemo_dataset_options_init, (; scale, shift))
    rows = matrix("x", x)
    return dataset(:mnemo_dataset_copy, context, rows, labels === nothing ? nothing : integers("labels", labels), chosen)
end

function Dataset(path::AbstractString;
    labels_path = nothing, scale = nothing, shift = nothing, context::Context = shared_context())
    labels = labels_path === nothing ? nothing : String(labels_path)
    chosen = options(ABI.mnemo_dataset_options, :mnemo_dataset_options_init, (; scale, shift, labels_path = labels))
    return dataset(:mnemo_dataset_open, context, String(path), chosen)
end

integers(name, x::StridedVector{<:Union{UInt8,Int32,Int64}}) = vector(name, x)
integers(name, x::AbstractVector{<:Integer}) = vector(name, convert(Vector{Int64}, x))
integers(name, x) = throw(ArgumentError("$name is a $(typeof(x)); it is a vector of integers"))

"""
    info(dataset)

What `dataset` holds: a named tuple of `dtype` (of the stored rows, `:f32`, `:u8` …), `rows` n, `dim` d, `labels` (how many
distinct ones; 0 if there are none), and `min` and `max` of its values after scale and shift.
"""
function info(data::Dataset)
    out = options(ABI.mnemo_dataset_info, :mnemo_dataset_info_init)
    native(:mnemo_dataset_info, data, out)
    i = out.value[]
    return (dtype = ABI.nameof(:dtype, i.dtype), rows = i.rows, dim = i.dim, labels = i.labels, min = i.min, max = i.max)
end

"""
    gather([T = Float64], dataset, index)

The values of the training rows `index`, which count from 1, as the columns of a matrix of `T`, `Float64` or `Float32`.
"""
gather(data::Dataset, index) = gather(Float64, data, index)
gather(::Type{T}, data::Dataset, index::AbstractVector{<:Integer}) where {T} =
    gather!(Matrix{T}(undef, info(data).dim, length(index)), data, index)

"""
    gather!(out, dataset, index)

As [`gather`](@ref), into `out`, d × length(index).
"""
function gather!(out::AbstractMatrix, data::Dataset, index::AbstractVector{<:Integer})
    rows = info(data).rows
    for i in index
        1 <= i <= rows || throw(BoundsError(data, i))
    end
    native(:mnemo_dataset_gather, data, vector("index", Int64[i - 1 for i in index]), matrix("out", out))
    return out
end

function detail(data::Dataset)
    i = info(data)
    return "$(i.rows) rows of $(i.dim) $(i.dtype)" * (i.labels > 0 ? ", $(i.labels) labels" : "")
end
