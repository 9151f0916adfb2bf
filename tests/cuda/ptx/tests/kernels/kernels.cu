// Kernels of the kinds that numerical libraries are made of, for the tests of the interpreter.
// Made into PTX by NVRTC: --gpu-architecture=compute_80 --std=c++17.

typedef unsigned int u32;
typedef unsigned long long u64;

// ---------------------------------------------------------------- Philox4x32-10

__device__ __forceinline__ void philox(u32 counter[4], u32 key0, u32 key1) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        u64 p0 = (u64)0xD2511F53u * counter[0], p1 = (u64)0xCD9E8D57u * counter[2];
        u32 c0 = (u32)(p1 >> 32) ^ counter[1] ^ key0, c2 = (u32)(p0 >> 32) ^ counter[3] ^ key1;
        counter[0] = c0;
        counter[1] = (u32)p1;
        counter[2] = c2;
        counter[3] = (u32)p0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

extern "C" __global__ void philox_words(const u32* __restrict__ in, u32* __restrict__ out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    u32 c[4] = {in[6 * i], in[6 * i + 1], in[6 * i + 2], in[6 * i + 3]};
    philox(c, in[6 * i + 4], in[6 * i + 5]);
    for (int k = 0; k < 4; ++k) out[4 * i + k] = c[k];
}

// The logarithm, sine and cosine by hand, so that no library decides the bits.
__device__ __forceinline__ double log_by_hand(double x) {
    long long bits = __double_as_longlong(x);
    int e = (int)(bits >> 52) - 1023;
    double m = __longlong_as_double((bits & 0xFFFFFFFFFFFFFll) | 0x3FF0000000000000ll);
    if (m > 1.4142135623730951) { m *= 0.5; e += 1; }
    double f = m - 1.0, s = f / (2.0 + f), z = s * s, r = 0.0;
#pragma unroll
    for (int k = 10; k >= 0; --k) r = fma(r, z, 2.0 / (2 * k + 1));
    return fma((double)e, 0.6931471805599453, s * r);
}

__device__ __forceinline__ void turn_by_hand(double x, double* sine, double* cosine) {
    // x in turns of 2 pi, from 0 to 1.
    double quarter = rint(4.0 * x), y = (x - 0.25 * quarter) * 6.283185307179586;
    double z = y * y, s = 0.0, c = 0.0;
#pragma unroll
    for (int k = 9; k >= 1; --k) s = fma(-z / ((2 * k) * (2 * k + 1)), 1.0 + s, 0.0);
#pragma unroll
    for (int k = 9; k >= 1; --k) c = fma(-z / ((2 * k - 1) * (2 * k)), 1.0 + c, 0.0);
    s = y * (1.0 + s);
    c = 1.0 + c;
    int q = (int)quarter & 3;
    *sine = q == 0 ? s : q == 1 ? c : q == 2 ? -s : -c;
    *cosine = q == 0 ? c : q == 1 ? -s : q == 2 ? -c : s;
}

extern "C" __global__ void philox_noise(double* __restrict__ out, int n, u32 key0, u32 key1) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        u32 c[4] = {(u32)i, 0, 0, 0};
        philox(c, key0, key1);
        double u = ((double)(((u64)c[0] << 32 | c[1]) >> 11) + 0.5) * 1.1102230246251565e-16;
        double v = (double)(((u64)c[2] << 32 | c[3]) >> 11) * 1.1102230246251565e-16;
        double r = sqrt(-2.0 * log_by_hand(u)), s, t;
        turn_by_hand(v, &s, &t);
        out[2 * i] = r * t;
        out[2 * i + 1] = r * s;
    }
}

// ---------------------------------------------------------------- asynchronous copies

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void copy16(void* to, const void* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> __device__ __forceinline__ void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory"); }

// Softmax-weighted mean of the points for every query, all float64: 8 queries a block, tiles of 32 points, two stages.
// points: n by 16; queries, out: b by 16. The largest logit and the sum run along.
extern "C" __global__ void __launch_bounds__(256)
flash64(const double* __restrict__ points, const double* __restrict__ queries, double* __restrict__ out, int n, int b, double scale) {
    __shared__ __align__(16) double tile[2][32][16];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, query = blockIdx.x * 8 + warp;
    double q[16], mean[16], largest = -1.0 / 0.0, sum = 0.0;
    for (int k = 0; k < 16; ++k) { q[k] = query < b ? queries[query * 16 + k] : 0.0; mean[k] = 0.0; }
    auto fetch = [&](int t) {
        int row = threadIdx.x / 8, column = threadIdx.x % 8 * 2, at = t * 32 + row;
        copy16(&tile[t & 1][row][column], points + (size_t)(at < n ? at : 0) * 16 + column, at < n ? 16 : 0);
        commit();
    };
    int tiles = (n + 31) / 32;
    fetch(0);
    for (int t = 0; t < tiles; ++t) {
        if (t + 1 < tiles) { fetch(t + 1); wait<1>(); } else { wait<0>(); }
        __syncthreads();
        const double* p = tile[t & 1][lane];
        double d = 0.0;
        for (int k = 0; k < 16; ++k) { double x = q[k] - p[k]; d = fma(x, x, d); }
        double logit = t * 32 + lane < n ? -scale * d : -1.0 / 0.0;
        if (logit > largest) {
            double shrink = exp(largest - logit);
            sum *= shrink;
            for (int k = 0; k < 16; ++k) mean[k] *= shrink;
            largest = logit;
        }
        double w = logit == largest && sum == 0.0 ? 1.0 : exp(logit - largest);
        if (t * 32 + lane < n) {
            sum += w;
            for (int k = 0; k < 16; ++k) mean[k] = fma(w, p[k], mean[k]);
        }
        __syncthreads();
    }
    double all = largest;
    for (int s = 16; s; s >>= 1) all = fmax(all, __shfl_xor_sync(~0u, all, s));
    double shrink = exp(largest - all);
    for (int k = -1; k < 16; ++k) {
        double x = (k < 0 ? sum : mean[k]) * shrink;
        for (int s = 16; s; s >>= 1) x += __shfl_xor_sync(~0u, x, s);
        if (k < 0) sum = x;
        else if (lane == 0 && query < b) out[query * 16 + k] = x / sum;
    }
}

// ---------------------------------------------------------------- bfloat16 matrix product

// out (m by n, float32) = x (m by k) times y (n by k) transposed; a block of two warps makes 32 by 32 of it.
// m and n are multiples of 32, k of 16.
extern "C" __global__ void __launch_bounds__(64)
product_bf16(const unsigned short* __restrict__ x, const unsigned short* __restrict__ y, float* __restrict__ out, int n, int k) {
    __shared__ __align__(16) unsigned short xs[2][32][24], ys[2][32][24];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float d[4][4] = {};
    auto fetch = [&](int t) {
        int row = threadIdx.x / 2, column = threadIdx.x % 2 * 8;
        copy16(&xs[t & 1][row][column], x + (size_t)(blockIdx.y * 32 + row) * k + t * 16 + column, 16);
        copy16(&ys[t & 1][row][column], y + (size_t)(blockIdx.x * 32 + row) * k + t * 16 + column, 16);
        commit();
    };
    fetch(0);
    for (int t = 0; t < k / 16; ++t) {
        if (t + 1 < k / 16) { fetch(t + 1); wait<1>(); } else { wait<0>(); }
        __syncthreads();
        u32 a[4];
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                     : "r"(shared_address(&xs[t & 1][warp * 16 + lane % 16][lane / 16 * 8])));
        for (int j = 0; j < 4; ++j) {
            u32 b[2];
            asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                         : "=r"(b[0]), "=r"(b[1])
                         : "r"(shared_address(&ys[t & 1][j * 8 + lane % 8][lane / 8 % 2 * 8])));
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                         : "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
        }
        __syncthreads();
    }
    for (int j = 0; j < 4; ++j)
        for (int e = 0; e < 4; ++e) {
            int row = blockIdx.y * 32 + warp * 16 + lane / 4 + e / 2 * 8, column = blockIdx.x * 32 + j * 8 + lane % 4 * 2 + e % 2;
            out[(size_t)row * n + column] = d[j][e];
        }
}

// ---------------------------------------------------------------- the smallest k of each row

// One block a row; k at most 32. Every warp keeps its k smallest by ballots and shuffles, then warp 0 merges.
__device__ __forceinline__ bool before(double a, int i, double b, int j) { return a < b || (a == b && i < j); }

__device__ __forceinline__ void keep(double& value, int& index, double v, int i, int lane, int k) {
    // The warp holds its smallest, sorted by lane; each candidate is put in its place.
    for (int source = 0; source < 32; ++source) {
        double c = __shfl_sync(~0u, v, source);
        int ci = __shfl_sync(~0u, i, source);
        if (ci < 0) continue;
        unsigned larger = __ballot_sync(~0u, before(c, ci, value, index));
        double up = __shfl_up_sync(~0u, value, 1);
        int up_index = __shfl_up_sync(~0u, index, 1);
        if (larger >> lane & 1) {
            bool first = lane == 0 || !(larger >> (lane - 1) & 1);
            value = first ? c : up;
            index = first ? ci : up_index;
        }
    }
}

extern "C" __global__ void smallest(const double* __restrict__ values, double* __restrict__ best, int* __restrict__ where,
                                    u32* __restrict__ counters, int n, int k) {
    __shared__ double part[8][32];
    __shared__ int part_index[8][32];
    __shared__ u32 finite;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (threadIdx.x == 0) finite = 0;
    __syncthreads();
    double value = 1.0 / 0.0;
    int index = 0x7fffffff;
    for (int base = warp * 32; base < n; base += blockDim.x) {
        int i = base + lane;
        double v = i < n ? values[(size_t)blockIdx.x * n + i] : 0.0;
        if (i < n && v < 1e300) atomicAdd(&finite, 1u);
        keep(value, index, v, i < n ? i : -1, lane, k);
    }
    part[warp][lane] = value;
    part_index[warp][lane] = index;
    __syncthreads();
    if (warp == 0) {
        for (int w = 1; w < (int)blockDim.x / 32; ++w) {
            int i = part_index[w][lane];
            keep(value, index, part[w][lane], i == 0x7fffffff ? -1 : i, lane, k);
        }
        if (lane < k) {
            best[blockIdx.x * k + lane] = value;
            where[blockIdx.x * k + lane] = index;
        }
        if (lane == 0) {
            atomicAdd(&counters[0], finite);
            atomicMax(&counters[1], finite);
        }
    }
}

// ---------------------------------------------------------------- float64 division, root, and the library's functions

__device__ __noinline__ double polynomial(const double* c, int n, double x) {
    double r = 0.0;
    for (int k = n - 1; k >= 0; --k) r = fma(r, x, c[k]);
    return r;
}

__constant__ double coefficients[5] = {1.0, -2.0, 0.5, 3.0, -0.25};

extern "C" __global__ void functions(const double* __restrict__ x, double* __restrict__ out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double v = x[i], local[8];
    for (int k = 0; k < 8; ++k) local[(k * 5 + i) & 7] = v * k;
    double* o = out + 12 * i;
    o[0] = 1.0 / v;
    o[1] = v / 3.0;
    o[2] = sqrt(v);
    o[3] = exp(-v);
    o[4] = log(v);
    o[5] = sin(v);
    o[6] = cos(v);
    o[7] = polynomial(coefficients, 5, v);
    o[8] = local[(i + 1) & 7] + local[i & 7];
    o[9] = (double)(expf((float)v) + logf((float)v));
    o[10] = rsqrt(v);
    o[11] = pow(v, 1.5);
}

// ---------------------------------------------------------------- the last block sums what the others left

extern "C" __global__ void sum_last_block(const double* __restrict__ x, double* partial, double* out, u32* ticket, int n) {
    __shared__ double s[4];
    __shared__ bool last;
    double sum = 0.0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    for (int d = 16; d; d >>= 1) sum += __shfl_down_sync(~0u, sum, d);
    if (threadIdx.x % 32 == 0) s[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = s[0] + s[1] + s[2] + s[3];
        __threadfence();
        last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        double total = 0.0;
        for (int k = 0; k < (int)gridDim.x; ++k) total += partial[k];
        *out = total;
        *ticket = 0;
    }
}
