# SPDX-License-Identifier: MIT OR Apache-2.0
# Matrices and vectors in every form that the library can see in place, and the refusal of others.

Random.seed!(2)
big = rand(9, 20)
data = Dataset(big[2:5, 1:6])
score = empirical_score(data, ve_power())
x = big[3:6, 11:16]
expected = evaluate(score, x, 1.0).score

@testset "views" begin
    for form in (view(big, 3:6, 11:16), view(view(big, 3:8, :), 1:4, 11:16), reshape(copy(vec(x)), 4, 6),
        reshape(view(vec(copy(x)), :), 4, 6), reinterpret(Float64, reinterpret(UInt64, x)))
        @test evaluate(score, form, 1.0).score == expected
    end
    @test gather(Dataset(view(big, 2:5, 1:6)), 1:6) == big[2:5, 1:6]
    every_other = view(big, 3:6, 11:2:16)
    @test evaluate(score, every_other, 1.0).score == expected[:, 1:2:end]
    one = view(big, 3:6, 11:11)
    @test evaluate(score, one, 1.0).score == expected[:, 1:1]
    @test size(evaluate(score, x[:, 1:0], 1.0).score) == (4, 0)
end

@testset "outputs in place" begin
    room = fill(-7.0, 9, 6)
    distance = fill(-7f0, 12)
    index = fill(-7, 3, 6)
    outputs = (score = view(room, 2:5, :), nearest_distance = view(distance, 1:2:12), nearest_index = view(index, 2, :))
    @test evaluate!(outputs, score, x, 1.0) === outputs
    @test room[2:5, :] == expected && all(==(-7), room[[1, 6, 7, 8, 9], :])
    exact = evaluate(score, x, 1.0; outputs = (:nearest_distance, :nearest_index))
    @test distance[1:2:12] == Float32.(exact.nearest_distance) && all(==(-7), distance[2:2:12])
    @test index[2, :] == exact.nearest_index && all(==(-7), index[[1, 3], :])
    same = copy(x)
    @test evaluate!((denoised = same,), score, same, 1.0).denoised == evaluate(score, x, 1.0; outputs = :denoised).denoised
end

@testset "times" begin
    at = [0.5, 1, 2, 3, 4, 5]
    each = evaluate(score, x, at).score
    for form in (Float32.(at), view([at'; at'], 2, :), Rational.(at), view(repeat(at, inner = 3), 1:3:18))
        @test evaluate(score, x, form).score == each
    end
    @test evaluate(score, x, 1).score == evaluate(score, x, [1.0]).score == evaluate(score, x, fill(1.0, 6)).score == expected
    @test evaluate(score, x, 1:6).score == evaluate(score, x, [1.0, 2, 3, 4, 5, 6]).score
    @test occursin("t", refused(() -> evaluate(score, x, [1.0, 2.0]), "MNEMO_E_SHAPE"))
    @test_throws MethodError evaluate(score, x, "1")
end

@testset "what is refused" begin
    before = copy(big)
    for (form, why) in ((copy(x')', "regular places"), (view(big, 3:6, [11, 13, 12]), "regular places"),
        (1.0 * I(4), "regular places"),
        (view(big, 1:2:8, 11:16), "elements of a column are 2 apart"), (view(big, 3:6, 16:-1:11), "columns are -9 apart"),
        (view(big, 6:-1:3, 11:16), "elements of a column are -1 apart"))
        @test occursin(why, message(() -> evaluate(score, form, 1.0), ArgumentError))
        @test evaluate(score, Array(form), 1.0).score isa Matrix # as the message says
    end
    @test occursin("backwards", message(() -> evaluate(score, x, view([1.0:6.0;], 6:-1:1)), ArgumentError))
    @test occursin("samples: reshape", message(() -> evaluate(score, x[:, 1], 1.0), DimensionMismatch))
    @test occursin("Complex", message(() -> evaluate(score, complex(x), 1.0), ArgumentError))
    refused(() -> evaluate(score, round.(Int, x), 1.0), "MNEMO_E_DTYPE")
    refused(() -> evaluate(score, Float16.(x), 1.0), "MNEMO_E_DTYPE")
    refused(() -> evaluate(score, x[1:3, :], 1.0), "MNEMO_E_SHAPE")
    out = fill(-7.0, 4, 5)
    refused(() -> evaluate!((score = out,), score, x, 1.0), "MNEMO_E_SHAPE")
    refused(() -> evaluate!((score = Float32.(out),), score, x[:, 1:5], 1.0), "MNEMO_E_DTYPE")
    refused(() -> evaluate!((nearest_index = zeros(6),), score, x, 1.0), "MNEMO_E_DTYPE")
    room = zeros(8, 6)
    overlap = (score = view(room, 1:4, :), denoised = view(room, 4:7, :))
    @test occursin("score and denoised share memory", message(() -> evaluate!(overlap, score, x, 1.0), ArgumentError))
    beside = (score = view(room, 1:4, :), denoised = view(room, 5:8, :), entropy = zeros(6))
    @test evaluate!(beside, score, x, 1.0).score == expected
    @test_throws DimensionMismatch evaluate!((entropy = zeros(6, 1),), score, x, 1.0)
    @test_throws ArgumentError evaluate!((scores = out,), score, x, 1.0)
    @test_throws ArgumentError evaluate(score, x, 1.0; outputs = "score")
    @test_throws MethodError evaluate(score, x, 1.0; sed = 1)
    index = fill(5, 6)
    refused(() -> evaluate!((nearest_index = index,), score, x, -1.0), "MNEMO_E_INVALID")
    @test all(==(5), index) && all(==(-7), out) && big == before
end
