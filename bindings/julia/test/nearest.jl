# SPDX-License-Identifier: MIT OR Apache-2.0

Random.seed!(5)
y = randn(5, 40)
x = randn(5, 7)
data = Dataset(y)
distances = [norm(x[:, j] - y[:, i]) for i in 1:40, j in 1:7]

@testset "nearest" begin
    r = nearest(data, x; k = 3)
    for j in 1:7
        order = sortperm(distances[:, j])[1:3]
        @test r.index[:, j] == order
        @test r.distance[:, j] ≈ distances[order, j]
    end
    @test nearest(data, x).index == r.index[1:1, :]
    @test nearest(data, x; metric = :l2, k = 40).index[:, 1] == sortperm(distances[:, 1])
    @test nearest(data, y; k = 2).index[1, :] == 1:40
    twins = Dataset([1.0 1 1; 2 2 2])
    @test vec(nearest(twins, [1.0 0; 2 0]; k = 3).index) == [1, 2, 3, 1, 2, 3]
    @test size(nearest(data, x[:, 1:0]; k = 2).index) == (2, 0)
end

@testset "cosine" begin
    cosines = [1 - dot(x[:, j], y[:, i]) / (norm(x[:, j]) * norm(y[:, i])) for i in 1:40, j in 1:7]
    r = nearest(Dataset(y .* 10.0 .^ (1:40)'), x; k = 40, metric = :cosine)
    for j in 1:7
        @test r.index[:, j] == sortperm(cosines[:, j])
        @test r.distance[:, j] ≈ sort(cosines[:, j])
    end
    @test nearest(Dataset(zeros(2, 1)), reshape([1.0, 2], 2, 1); metric = :cosine).distance[1] == 1
end

@testset "in place" begin
    r = nearest(data, x; k = 2)
    only_index = fill(-1, 6, 7)
    nearest!((index = view(only_index, 3:4, :),), data, Float32.(x))
    @test only_index[3:4, :] == r.index && all(==(-1), only_index[[1, 2, 5, 6], :])
    only_distance = zeros(Float32, 2, 7)
    @test nearest!((distance = only_distance,), data, x).distance === only_distance
    @test only_distance == Float32.(r.distance)
    untouched = fill(-1, 50, 7)
    refused(() -> nearest!((index = untouched,), data, x), "MNEMO_E_INVALID")
    @test all(==(-1), untouched)
end

@testset "memorization" begin
    near = vec(minimum(distances; dims = 1))
    threshold = median(near)
    r = memorization(data, x; threshold)
    @test r.samples == 7 && r.copied == count(<=(threshold), near) && r.fraction_copied == r.copied / 7
    @test [r.min_distance, r.median_distance, r.max_distance] ≈ [minimum(near), median(near), maximum(near)]
    @test memorization(data, Float32.(y); threshold = 1e-3).fraction_copied == 1
end

@testset "what is refused" begin
    refused(() -> nearest(data, x; k = 41), "MNEMO_E_INVALID")
    refused(() -> nearest(data, x[1:4, :]), "MNEMO_E_SHAPE")
    refused(() -> memorization(data, x; threshold = 0), "MNEMO_E_INVALID")
    refused(() -> memorization(data, x[:, 1:0]; threshold = 1), "MNEMO_E_INVALID")
    @test_throws UndefKeywordError memorization(data, x)
    @test_throws ArgumentError nearest(data, x; k = 0)
    @test_throws ArgumentError nearest(data, x; metric = :angle)
    refused(() -> nearest(data, 0 * x; metric = :cosine), "MNEMO_E_INVALID")
    @test_throws ArgumentError nearest!(NamedTuple(), data, x)
    @test_throws ArgumentError nearest!((indices = zeros(Int, 1, 7),), data, x)
end
