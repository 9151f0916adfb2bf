// Standard normal numbers with the bits of src/random.rs, where the layout of counters is told and each constant derived.
//
// mnemo_combine_with_noise(Combine, Noise)    out <- keep out + sum of factor * matrix + factor z, see combine.cuh and below.
//     One thread per pair of columns; block 256, any grid (work is strided over it), no dynamic shared memory.
//
// Every operation is one that IEEE 754 rounds correctly, named so that nothing can be contracted.
#include "combine.cuh"

__device__ inline double times(double a, double b) { return __dmul_rn(a, b); }
__device__ inline double plus(double a, double b) { return __dadd_rn(a, b); }
__device__ inline double minus(double a, double b) { return __dadd_rn(a, -b); }

struct Words {
    unsigned w0, w1, w2, w3;
};

// Philox4x32-10.
__device__ inline Words philox(Words c, unsigned k0, unsigned k1) {
    for (int round = 0; round < 10; round++) {
        const unsigned long long p0 = 0xd2511f53ull * c.w0, p1 = 0xcd9e8d57ull * c.w2;
        c = {(unsigned)(p1 >> 32) ^ c.w1 ^ k0, (unsigned)p1, (unsigned)(p0 >> 32) ^ c.w3 ^ k1, (unsigned)p0};
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return c;
}

// Two interleaved Horner sums in z^2.
template <int N> __device__ inline double polynomial(const double (&c)[N], double z) {
    const double y = times(z, z);
    double odd = c[0], even = c[1];
#pragma unroll
    for (int i = 2; i < N; i += 2) {
        odd = plus(times(odd, y), c[i]);
        even = plus(times(even, y), c[i + 1]);
    }
    return plus(times(odd, z), even);
}

// The natural logarithm of a positive normal number.
__device__ inline double ln(double x) {
    constexpr long long ONE = 0x3ff0000000000000ll, SQRT_HALF = 0x3fe6a09e667f3bcdll, FRACTION = (1ll << 52) - 1;
    constexpr double ATANH[10] = {2.0 / 21.0, 2.0 / 19.0, 2.0 / 17.0, 2.0 / 15.0, 2.0 / 13.0,
                                  2.0 / 11.0, 2.0 / 9.0,  2.0 / 7.0,  2.0 / 5.0,  2.0 / 3.0};
    constexpr double LN2_HI = 0.6931471803691238, LN2_LO = 1.9082149292705877e-10;
    const long long shifted = __double_as_longlong(x) + (ONE - SQRT_HALF);
    const double k = (double)((shifted >> 52) - 1023);
    const double f = minus(__longlong_as_double((shifted & FRACTION) + SQRT_HALF), 1.0);
    const double s = __ddiv_rn(f, plus(2.0, f));
    const double z = times(s, s);
    const double r = times(z, polynomial(ATANH, z));
    const double half_square = times(times(0.5, f), f);
    const double inner = plus(times(s, plus(half_square, r)), times(k, LN2_LO));
    return minus(times(k, LN2_HI), minus(minus(half_square, inner), f));
}

struct Pair {
    double first, second;
};

// Flips the sign where bit 1 of `word` is set.
__device__ inline double flip(double x, unsigned long long word) {
    return __longlong_as_double(__double_as_longlong(x) ^ (long long)((word & 2) << 62));
}

// Sine and cosine of turn 2^-53 turns.
__device__ inline Pair sin_cos(unsigned long long turn) {
    constexpr double PI_4_HI = 0.7853981633974483, PI_4_LO = 3.061616997868383e-17;
    constexpr double TWO_POW_M50 = 1.0 / (double)(1ull << 50);
    constexpr double SIN[8] = {4.628704628834683e-17,   -2.0410263396641442e-14, 6.948453273886629e-12,
                               -1.757247673443401e-9,   3.1336168903781217e-7,   -3.657620418217725e-5,
                               0.0024903945701927202,   -0.08074551218828079};
    constexpr double COS[8] = {1.001886461636272e-15, -3.8980731712596753e-13, 1.1501159127974052e-10,
                               -2.4611369504942e-8,   3.59086044859151e-6,     -0.00032599188692739,
                               0.015854344243815502,  -0.30842513753404244};
    const unsigned long long quarter = (turn + (1ull << 50)) >> 51;
    const double t = times((double)((long long)turn - (long long)(quarter << 51)), TWO_POW_M50);
    const double z = times(t, t);
    const double sine = plus(times(t, PI_4_HI), times(t, plus(PI_4_LO, times(z, polynomial(SIN, z)))));
    const double cosine = plus(1.0, times(z, polynomial(COS, z)));
    const bool swap = quarter & 1;
    return {flip(swap ? cosine : sine, quarter), flip(swap ? sine : cosine, quarter + 1)};
}

// Two standard normals from 106 of the 128 bits.
__device__ inline Pair box_muller(Words w) {
    constexpr double TWO_POW_M53 = 1.0 / (double)(1ull << 53);
    const unsigned long long top = ((unsigned long long)w.w1 << 32 | w.w0) >> 11;
    const double u = times(plus((double)top, 0.5), TWO_POW_M53);
    const double radius = __dsqrt_rn(minus(0.0, times(2.0, ln(u))));
    const Pair turn = sin_cos(((unsigned long long)w.w3 << 32 | w.w2) >> 11);
    return {times(radius, turn.second), times(radius, turn.first)};
}

// factor z: z of row i is sample first_sample + i.
struct Noise {
    double factor;
    unsigned long long seed, first_sample;
    unsigned purpose, step;
};

extern "C" __global__ void __launch_bounds__(THREADS) mnemo_combine_with_noise(Combine sum, Noise noise) {
    const int pairs = sum.cols / 2 + sum.cols % 2;
    for (long long pair = (long long)blockIdx.x * THREADS + threadIdx.x; pair < sum.rows * pairs;
         pair += (long long)gridDim.x * THREADS) {
        const Place place = place_of(pair, pairs);
        const unsigned long long sample = noise.first_sample + (unsigned long long)place.row;
        const Words counter = {(unsigned)place.column, noise.step, (unsigned)sample,
                               noise.purpose << 24 | (unsigned)(sample >> 32)};
        const Pair z = box_muller(philox(counter, (unsigned)noise.seed, (unsigned)(noise.seed >> 32)));
        // Not unrolled: more registers would leave fewer threads to wait with.
        const int column = 2 * place.column;
#pragma unroll 1
        for (int j = 0; j < 2 && column + j < sum.cols; j++) {
            const long long at = place.row * sum.cols + column + j;
            sum.out[at] = plus(combined(sum, place.row, at), times(noise.factor, j == 0 ? z.first : z.second));
        }
    }
}
