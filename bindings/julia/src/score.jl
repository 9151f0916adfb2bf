# SPDX-License-Identifier: MIT OR Apache-2.0

"""
A model of the score, grad log p_t(x): [`empirical_score`](@ref) or [`custom_score`](@ref). It keeps its data set, process
and context. Immutable: any thread may use it. See [`evaluate`](@ref), [`jvp`](@ref), [`sample`](@ref).
"""
struct Score <: Resource
    handle::Handle
    dim::Int
end

detail(s::Score) = "dimension $(s.dim)"

"""
    empirical_score(dataset, process; regularizer = :none, strength, log_strength, tolerance = 1e-12, label = nothing)

The exact score of the training set smoothed by `process`, with which a model copies everything: with
l_n = -|x - m y_n|² / (2 sigma²), w = softmax(l) and ybar = sum_n w_n y_n, s = (m ybar - x) / sigma².

- `regularizer`: `:tikhonov`, strength c ≥ 0: s = (m ybar - x) / (sigma² + c); `:bayes_density`, c > 0: s min(1, p(x)/c);
  `:bayes_weight`, c > 0: s min(1, sum_n exp(l_n)/c).
- `strength`: c; `log_strength`: ln c, for empirical Bayes in high dimension, where c is beyond the range of `Float64`.
- `tolerance`: rows whose summed weight is below this may be left out of ybar; 0 leaves out none.
- `label`: form the score of the rows with this label alone.

Errors: `MNEMO_E_INVALID`, also for a label that is not in the data.
"""
function empirical_score(data::Dataset, process::Process;
    regularizer = nothing, strength = nothing, log_strength = nothing, tolerance = nothing, label = nothing)
    conditional = label === nothing ? nothing : true
    chosen = options(ABI.mnemo_empirical_options, :mnemo_empirical_options_init,
        (; regularizer, strength, log_strength, tolerance, label, conditional))
    dim = info(data).dim
    return Score(Handle(:Score, :mnemo_score_release, :mnemo_score_empirical, data, process, chosen), dim)
end

"""
    custom_score(eval!, process, dim; prediction = :score, jvp = nothing, context)

The score of a model of your own, of dimension `dim`. `eval!(out, x, t)` writes the model's prediction at `x`, d × n, and
times `t`, a vector of n, to `out`, d × n; the library calls it once for a whole batch. With `prediction`

- `:score` it writes s = grad log p_t(x);
- `:eps` the noise, -sigma s;
- `:x0` the denoised value, (x + sigma² s) / m;
- `:v` the velocity, m eps - sigma x0;
- `:flow` the flow velocity, eps - x0.

`jvp(out, x, t, v)`, if there is one, writes the derivative of the prediction along `v`, and [`jvp`](@ref) of the score works.

The arrays are of the element type of the caller's matrix (`t` is of `Float64`) and exist only until the function returns:
copy what is to be kept. `out` holds NaN where it is not written. On a CUDA context they are [`DeviceArray`](@ref)s. The functions run in the task that uses the score, and may
use the library. What they throw stops the call, which throws it.
"""
function custom_score(eval!, process::Process, dim::Integer; prediction = :score, jvp = nothing,
    context::Context = shared_context())
    model = Model(eval!, jvp, false)
    ops = options(ABI.mnemo_score_ops, :mnemo_score_ops_init,
        (; prediction, eval = ON_EVAL[], jvp = jvp === nothing ? nothing : ON_JVP[], drop = ON_DROP[]))
    disable_sigint() do # the library has the model or has it not
        user = root(model)
        handle = try
            Handle(:Score, :mnemo_score_release, :mnemo_score_custom, context, process, Int64(dim), ops, user)
        catch
            model.dropped = true # the library does not drop what it did not take
            rethrow()
        end
        return Score(handle, dim)
    end
end

const SCORE_OUTPUTS = fieldnames(ABI.mnemo_score_outputs)[3:end]

"""
    evaluate(score, x, t; outputs = :score, cancel, progress)

Evaluates `score` at the columns of `x`, d × n of `Float32` or `Float64`, and the time `t`, one number or a vector of n. Returns
a named tuple of the `outputs`, one name or several, all computed in one pass:

- `score`: s(x, t), d × n of the type of x;
- `denoised`: (x + sigma² s) / m of that score, d × n;
- `log_density`: ln p_t(x) of the unregularized mixture, nats; of the label's if there is one;
- `divergence`: div s, the trace of the score's derivative;
- `entropy`: of the weights w, nats: ln of the number of training rows that x might have come from;
- `nearest_index`: which training row, from 1, has the least |x - m y|, ties to the first;
- `nearest_distance`: that distance;
- `denoised_error_bound`: an upper bound on the length of the error of `denoised` in the type of x, by what was left out and
  rounded, whether or not `denoised` is asked for. It is rigorous but for the roundings of products where many rows have
  weight: these are taken as independent, and eight standard deviations of their sum as its most;
- `log_density_error_bound`: the same for `log_density`.

A custom score has `score` and `denoised`. Vectors are of `Float64`; for others, and to write into memory you have, see
[`evaluate!`](@ref). `cancel` is a [`Cancel`](@ref); `progress(done, total)` is called now and then, in the units of the call,
and stops it by returning `false`.

Errors: `MNEMO_E_INVALID` for NaN or Inf in x, and for a time outside the process or where sigma = 0.
"""
function evaluate(score::Score, x::AbstractArray, t; outputs = :score, exec...)
    matrix("x", x)
    names = output_names(outputs, SCORE_OUTPUTS)
    results = NamedTuple{names}(map(name -> result(name, x), names))
    return evaluate!(results, score, x, t; exec...)
end

result(name, x) =
    name in (:score, :denoised) ? Matrix{eltype(x)}(undef, size(x)) :
    name === :nearest_index ? Vector{Int64}(undef, size(x, 2)) : Vector{Float64}(undef, size(x, 2))

"""
    evaluate!(outputs, score, x, t; cancel, progress)

As [`evaluate`](@ref), into the arrays of the named tuple `outputs`, which it returns: matrices of the element type of x,
vectors of `Float64` or `Float32`, and `nearest_index` of `Int64`. On failure they are untouched.
"""
function evaluate!(outputs::NamedTuple, score::Score, x::AbstractArray, t; exec...)
    names = output_names(keys(outputs), SCORE_OUTPUTS)
    haskey(outputs, :nearest_index) && counted("outputs.nearest_index", outputs.nearest_index)
    for a in names, b in names
        a < b && Base.mightalias(outputs[a], outputs[b]) && throw(ArgumentError("outputs $b and $a share memory"))
    end
    tensors = NamedTuple{names}(map(names) do name
        (name in (:score, :denoised) ? matrix : vector)("outputs.$name", outputs[name])
    end)
    chosen = options(ABI.mnemo_score_outputs, :mnemo_score_outputs_init, tensors)
    run(Exec(; exec...), :mnemo_score_eval, score, matrix("x", x), times(t), chosen)
    haskey(outputs, :nearest_index) && (outputs.nearest_index .+= 1)
    return outputs
end

"""
    jvp(score, x, t, v; cancel, progress)

The derivative of the score along the columns of `v`, J v, at `x` and `t` as for [`evaluate`](@ref); `v` has the size and the
element type of `x`. Errors: `MNEMO_E_UNSUPPORTED` for a custom score without a jvp.
"""
jvp(score::Score, x::AbstractArray, t, v::AbstractArray; exec...) =
    (matrix("x", x); jvp!(Matrix{eltype(x)}(undef, size(x)), score, x, t, v; exec...))

"""
    jvp!(out, score, x, t, v; cancel, progress)

As [`jvp`](@ref), into `out`.
"""
function jvp!(out::AbstractArray, score::Score, x::AbstractArray, t, v::AbstractArray; exec...)
    run(Exec(; exec...), :mnemo_score_jvp, score, matrix("x", x), times(t), matrix("v", v), matrix("out", out))
    return out
end
