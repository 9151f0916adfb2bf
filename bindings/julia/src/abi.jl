# SPDX-License-Identifier: MIT OR Apache-2.0

"The structs of `mnemo.h`, field for field."
module ABI

struct mnemo_error
    code::Int32
    native::Int32
    len::UInt32
    reserved::UInt32
    message::NTuple{496,UInt8}
end

struct mnemo_tensor
    data::Ptr{Cvoid}
    rows::Int64
    cols::Int64
    row_stride::Int64
    dtype::UInt32
    device_type::UInt32
    device_id::Int32
    reserved::UInt32
end

struct mnemo_exec
    struct_size::UInt32
    flags::UInt32
    stream::Ptr{Cvoid}
    seed::UInt64
    cancel::Ptr{Cvoid}
    progress::Ptr{Cvoid}
    progress_user::Ptr{Cvoid}
end

struct mnemo_context_options
    struct_size::UInt32
    device_type::UInt32
    device_id::Int32
    num_threads::UInt32
    memory_limit::UInt64
    kernel_cache_dir::Ptr{Cvoid}
    instruction_set::UInt32
    reserved::UInt32
end

struct mnemo_dataset_options
    struct_size::UInt32
    reserved::UInt32
    scale::Float64
    shift::Float64
    labels_path::Ptr{Cvoid}
end

struct mnemo_dataset_info
    struct_size::UInt32
    dtype::UInt32
    rows::Int64
    dim::Int64
    labels::Int64
    min::Float64
    max::Float64
end

struct mnemo_empirical_options
    struct_size::UInt32
    regularizer::UInt32
    strength::Float64
    tolerance::Float64
    label::Int64
    conditional::UInt32
    reserved::UInt32
    log_strength::Float64
end

struct mnemo_score_ops
    struct_size::UInt32
    prediction::UInt32
    eval::Ptr{Cvoid}
    jvp::Ptr{Cvoid}
    drop::Ptr{Cvoid}
end

struct mnemo_score_outputs
    struct_size::UInt32
    reserved::UInt32
    score::Ptr{Cvoid}
    denoised::Ptr{Cvoid}
    log_density::Ptr{Cvoid}
    divergence::Ptr{Cvoid}
    entropy::Ptr{Cvoid}
    nearest_index::Ptr{Cvoid}
    nearest_distance::Ptr{Cvoid}
    denoised_error_bound::Ptr{Cvoid}
    log_density_error_bound::Ptr{Cvoid}
end

struct mnemo_sampler_options
    struct_size::UInt32
    solver::UInt32
    grid::UInt32
    from_prior::UInt32
    denoise_last::UInt32
    reserved::UInt32
    steps::Int64
    first_sample::Int64
    t_start::Float64
    t_end::Float64
    alpha2::Float64
    eta::Float64
    rtol::Float64
    atol::Float64
    rho::Float64
    s_churn::Float64
    s_min::Float64
    s_max::Float64
    s_noise::Float64
    times::Ptr{Cvoid}
    times_count::Int64
    observer::Ptr{Cvoid}
    observer_user::Ptr{Cvoid}
end

struct mnemo_memorization_options
    struct_size::UInt32
    reserved::UInt32
    threshold::Float64
end

struct mnemo_memorization_report
    struct_size::UInt32
    reserved::UInt32
    samples::Int64
    copied::Int64
    fraction_copied::Float64
    min_distance::Float64
    median_distance::Float64
    max_distance::Float64
end

# The version that these structs are of.
const MAJOR = 0
const MINOR = 2

const EXEC_CHECK = 1

# The constants that the library takes, by the option they are for.
const CONSTANTS = (
    dtype = (f32 = 1, f64 = 2, f16 = 3, bf16 = 4, u8 = 5, i32 = 6, i64 = 7),
    device_type = (cpu = 1, cuda = 2),
    instruction_set = (best = 0, portable = 1, avx2 = 2, avx512 = 3, amx = 4),
    regularizer = (none = 0, tikhonov = 1, bayes_density = 2, bayes_weight = 3),
    prediction = (score = 0, eps = 1, x0 = 2, v = 3, flow = 4),
    solver = (
        euler = 0,
        heun = 1,
        exponential = 2,
        dpmpp_2m = 3,
        rk45 = 4,
        euler_maruyama = 5,
        ancestral = 6,
        edm_stochastic = 7,
    ),
    grid = (uniform_t = 0, uniform_s = 1, karras = 2, custom = 3),
    metric = (l2 = 0, cosine = 1),
)

"The number of the constant `value` of `option`."
function constant(option::Symbol, value::Symbol)
    known = CONSTANTS[option]
    haskey(known, value) ||
        throw(ArgumentError("$option is :$value; it is one of $(join(repr.(keys(known)), ", "))"))
    return UInt32(known[value])
end

"The name of the constant `number` of `option`."
nameof(option::Symbol, number::Integer) =
    keys(CONSTANTS[option])[findfirst(==(number), values(CONSTANTS[option]))]

end
