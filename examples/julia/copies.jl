# copies.jl - which models copy their training set? The short audit; the same program is in every language of examples/.
#
#     julia copies.jl ../data/digits.npy
#
# SPDX-License-Identifier: MIT OR Apache-2.0
using Mnemo, Printf, Statistics

const SAMPLES = 64
const NEIGHBOURS = 500
const SEED = 1

# Half the median distance between a row and its nearest other row: what is nearer than that is a copy.
function copy_distance(data)
    rows = gather(data, 1:NEIGHBOURS)
    other = nearest(data, rows; k = 2).distance[2, :]
    return sort(other)[NEIGHBOURS÷2+1] / 2
end

# A model of the host's own, behind a callback: the Gaussian with the data's mean and mean variance.
function gaussian_score(data, process)
    rows = gather(data, 1:info(data).rows)
    center = mean(rows; dims = 2)
    variance = mean(abs2, rows .- center)
    # E[y | x] = mean + v / (v + sigma^2) (x - mean), where sigma = t.
    return custom_score(process, info(data).dim; prediction = :x0) do out, x, t
        keep = variance ./ (variance .+ t .^ 2)
        out .= center .+ keep' .* (x .- center)
    end
end

# Samples of a score by EDM's sampler, and how near they come to the training rows.
function audit(name, score, data, threshold)
    x = sample(score, SAMPLES; seed = SEED) # Heun, Karras grid, 18 steps
    report = memorization(data, x; threshold)
    @printf("%-15s %3d of %d %9.4f %9.4f %9.4f\n", name, report.copied, SAMPLES, report.min_distance,
        report.median_distance, report.max_distance)
end

function main(path)
    process = ve_power(k = 2, a = 1, t_end = 80) # EDM: sigma(t) = t, up to 80

    # The images as they are, then scaled to [-1, 1], which EDM's noise levels are meant for.
    images = info(Dataset(path))
    scale = 2 / (images.max - images.min)
    data = Dataset(path; scale, shift = -1 - images.min * scale)
    threshold = copy_distance(data)
    @printf("%d rows of %d values in [%.1f, %.1f], scaled to [-1, 1]\n", images.rows, images.dim, images.min, images.max)
    @printf("a copy is within %.4f of a training row\n\n", threshold)
    @printf("%-15s %9s %9s %9s %9s\n", "model", "copied", "nearest", "median", "farthest")

    audit("exact", empirical_score(data, process), data, threshold)
    for strength in (0.01, 0.04, 0.16, 0.64)
        score = empirical_score(data, process; regularizer = :tikhonov, strength)
        audit(@sprintf("Tikhonov %.2f", strength), score, data, threshold)
    end
    audit("Gaussian", gaussian_score(data, process), data, threshold)
end

main(isempty(ARGS) ? "digits.npy" : ARGS[1])
