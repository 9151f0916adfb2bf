# SPDX-License-Identifier: MIT OR Apache-2.0

"""
Measures, explains and reduces memorization in diffusion models: the exact score of a training set, samplers, and which
samples are copies. Samples are the columns of matrices, and training rows count from 1.
"""
module Mnemo

import Libdl

export Cancel, Context, Dataset, DeviceArray, MnemoError, Process, Score
export custom_score, describe, discrete, empirical_score, evaluate, evaluate!, flow, gather, gather!, info, jvp, jvp!,
    memorization, nearest, nearest!, request!, reset!, sample, sample!, sub_vp, time_of_sigma, ve_exponential, ve_geometric,
    ve_power, vp_linear, warm_up

include("abi.jl")
include("native.jl")
include("handles.jl")
include("tensor.jl")
include("device.jl")
include("call.jl")
include("process.jl")
include("dataset.jl")
include("score.jl")
include("sampler.jl")
include("memorization.jl")

function __init__()
    LIBRARY[] = load_library()
    make_callbacks()
end

end
