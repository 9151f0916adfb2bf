// A block's share of a product-like sum: QUERIES x COLUMNS results, each a sum over an inner index k in order,
// KSTEP of them staged in shared memory at a time while the next are on their way to registers.
//
// Whatever the shape, a result is the same chain of operations over k = 0, 1, 2, ..., so shapes may be chosen by the
// batch without a change of bits.
#pragma once
#include "common.cuh"

constexpr int KSTEP = 16;

// Q x C results per thread; threads next to each other have columns next to each other.
template <int QUERIES_, int COLUMNS_, int Q_, int C_> struct Shape {
    static constexpr int QUERIES = QUERIES_, COLUMNS = COLUMNS_, Q = Q_, C = C_;
    static constexpr int ACROSS = COLUMNS / C, DOWN = QUERIES / Q;
    static_assert(ACROSS * DOWN == THREADS, "one block");
    // Numbers of a stage per thread.
    static constexpr int LEFT = (QUERIES * KSTEP + THREADS - 1) / THREADS;
    static constexpr int RIGHT = COLUMNS * KSTEP / THREADS;
};
// For few queries: one column per thread. For many: 4 x 4.
using Low = Shape<8, 128, 4, 1>;
using High = Shape<64, 64, 4, 4>;

// One number of padding: stages are written along k and read along queries or columns, both without bank conflicts.
template <int WIDTH> using Stage = double[KSTEP][WIDTH + 1];
