# SPDX-License-Identifier: MIT OR Apache-2.0

const NEAREST_OUTPUTS = (:distance, :index)

"""
    nearest(dataset, x; k = 1, metric = :l2, cancel, progress)

The `k` nearest training rows of each column of `x`, d × n of `Float32` or `Float64`, exact: a named tuple of `distance`, k × n,
nearest first, and `index`, k × n, which counts from 1, ties to the lower. A training row's nearest row is itself: for its
neighbours ask for one more and leave out the first. `metric` is `:l2`, the Euclidean distance, or `:cosine`, 1 - cos, in [0, 2]
and 1 from a training row of zeros. Errors: `MNEMO_E_INVALID` if k is not in 1 … rows, or by `:cosine` if a column is all zeros.
"""
function nearest(data::Dataset, x::AbstractArray; k::Integer = 1, options...)
    matrix("x", x)
    k >= 1 || throw(ArgumentError("k is $k; it must be at least 1"))
    outputs = (distance = Matrix{Float64}(undef, k, size(x, 2)), index = Matrix{Int64}(undef, k, size(x, 2)))
    return nearest!(outputs, data, x; options...)
end

"""
    nearest!(outputs, dataset, x; metric = :l2, cancel, progress)

As [`nearest`](@ref), into the matrices of the named tuple `outputs`: `distance` of `Float64` or `Float32`, `index` of `Int64`,
or one of them; their number of rows is k. On failure they are untouched.
"""
function nearest!(outputs::NamedTuple, data::Dataset, x::AbstractArray; metric::Symbol = :l2, exec...)
    isempty(outputs) && throw(ArgumentError("outputs is empty; it has distance, index or both"))
    output_names(keys(outputs), NEAREST_OUTPUTS)
    haskey(outputs, :index) && counted("outputs.index", outputs.index)
    distance, index = map(NEAREST_OUTPUTS) do name
        haskey(outputs, name) ? matrix("outputs.$name", outputs[name]) : nothing
    end
    k = Int64(size(first(outputs), 1))
    run(Exec(; exec...), :mnemo_nearest, data, matrix("x", x), ABI.constant(:metric, metric), k, distance, index)
    haskey(outputs, :index) && (outputs.index .+= 1)
    return outputs
end

"""
    memorization(dataset, x; threshold, cancel, progress)

How near the samples `x`, d × n of `Float32` or `Float64`, n > 0, come to the training rows: a named tuple of `samples`, `copied`
(those within the Euclidean distance `threshold` of a training row), `fraction_copied`, and `min_distance`, `median_distance` and
`max_distance` of the distances to the nearest training row. Half the median distance of training rows to their nearest
neighbours is a scale-free `threshold`.
"""
function memorization(data::Dataset, x::AbstractArray; threshold::Real, exec...)
    chosen = options(ABI.mnemo_memorization_options, :mnemo_memorization_options_init, (; threshold))
    report = options(ABI.mnemo_memorization_report, :mnemo_memorization_report_init)
    run(Exec(; exec...), :mnemo_memorization, data, matrix("x", x), chosen, report)
    names = fieldnames(ABI.mnemo_memorization_report)[3:end]
    return NamedTuple{names}(map(name -> getfield(report.value[], name), names))
end
