# SPDX-License-Identifier: MIT OR Apache-2.0
# Objects of the library, released exactly once.

mutable struct Handle
    pointer::Ptr{Cvoid}
    release::Ptr{Cvoid}
    kind::Symbol
    state::Threads.Atomic{Int} # 1: closed; and 2 for every call that is using it
    released::Threads.Atomic{Int}
end

"Makes an object by the function `create`, to be released by `release`."
function Handle(kind::Symbol, release::Symbol, create::Symbol, @nospecialize(args...))
    disable_sigint() do # else an object made as Ctrl-C is pressed would belong to nobody
        out = Ref(C_NULL)
        native(create, args..., out)
        handle = Handle(out[], symbol(release), kind, Threads.Atomic{Int}(0), Threads.Atomic{Int}(0))
        return finalizer(close, handle)
    end
end

function enter(h::Handle)
    closed = isodd(Threads.atomic_add!(h.state, 2))
    if closed || h.pointer == C_NULL # a precompiled module keeps no pointers
        leave(h)
        throw(ArgumentError("this Mnemo.$(h.kind) " * (closed ? "is closed" : "was made in another process")))
    end
    return h
end

function leave(h::Handle)
    Threads.atomic_sub!(h.state, 2) == 3 && release(h)
    return nothing
end

function Base.close(h::Handle)
    Threads.atomic_or!(h.state, 1) < 2 && release(h)
    return nothing
end

function release(h::Handle)
    h.pointer != C_NULL && Threads.atomic_xchg!(h.released, 1) == 0 &&
        disable_sigint(() -> ccall(h.release, Cvoid, (Ptr{Cvoid},), h.pointer))
    return nothing
end

Base.isopen(h::Handle) = h.pointer != C_NULL && iseven(h.state[])
Base.deepcopy_internal(h::Handle, ::IdDict) = h # a second owner would release it again

"What has a `handle` of the library."
abstract type Resource end

"""
    close(x)

Releases a context, cancel flag, process, data set or score. Calls that are using it end first; later ones are an
`ArgumentError`. Closing twice does nothing. The garbage collector closes what is not closed, but it does not see how much
memory an object holds outside Julia: close large data sets.
"""
Base.close(r::Resource) = close(r.handle)
Base.isopen(r::Resource) = isopen(r.handle)
Base.show(io::IO, r::T) where {T<:Resource} = print(io, Base.nameof(T), "(", isopen(r) ? detail(r) : "closed", ")")
detail(::Resource) = ""

address(r::Resource) = r.handle.pointer
handle(r::Resource) = r.handle

"""
    Context(; num_threads, memory_limit, instruction_set, device_type, device_id, kernel_cache_dir)

A machine to compute on, with its own threads. Data sets and custom scores are made on one, `context = …`; without, on a
context that all share. Any thread may use it.

- `num_threads`: threads of the library's own; 0, the initial value, means one per processor. They are not Julia's.
- `memory_limit`: bytes of memory that the rows of one data set may take; 0 means no limit. Rows of a larger file that is not
  compressed stay there and are read when they are needed: if it changes, every call is `MNEMO_E_IO`.
- `instruction_set`: `:best` (the initial value), `:portable`, `:avx2`, `:avx512` or `:amx`. Two machines that use the same one get
  the same bits.
- `device_type`: `:cpu`, or `:cuda` with `device_id` and `kernel_cache_dir`, a folder for compiled kernels.

A CUDA context uses a [`DeviceArray`](@ref) of its device where it is, and arrays by copies. Calls on what was made on it queue
their work on the keyword `stream`, an address (the legacy default stream without), and wait for it where an array takes part,
and where `mnemo.h` says so. `check = true` waits too, and reports NaN and Inf in what is on the device, where they would give NaN.

Errors: `MNEMO_E_DEVICE` if the device is not there or the processor does not have the instruction set.
"""
struct Context <: Resource
    handle::Handle
end

function Context(;
    num_threads = nothing,
    memory_limit = nothing,
    instruction_set = nothing,
    device_type = nothing,
    device_id = nothing,
    kernel_cache_dir = nothing,
)
    folder = kernel_cache_dir === nothing ? nothing : String(kernel_cache_dir)
    chosen = options(ABI.mnemo_context_options, :mnemo_context_options_init,
        (; num_threads, memory_limit, instruction_set, device_type, device_id, kernel_cache_dir = folder))
    return Context(Handle(:Context, :mnemo_context_release, :mnemo_context_create, chosen))
end

"""
    warm_up(context)

Compiles and loads all kernels of a CUDA context, which its first calls would otherwise wait for. A CPU context has nothing to
do. Errors: `MNEMO_E_COMPILE`, `MNEMO_E_CUDA`.
"""
warm_up(context::Context) = native(:mnemo_context_warm_up, context)

"""
    describe(context)

The backend, instruction set, threads and device of `context`, as JSON.
"""
function describe(context::Context)
    needed = Ref{Csize_t}(0)
    native(:mnemo_context_describe, context, C_NULL, Csize_t(0), needed)
    json = Vector{UInt8}(undef, needed[])
    native(:mnemo_context_describe, context, json, needed[], C_NULL)
    return String(json[1:end-1])
end

const SHARED = Ref{Union{Nothing,Context}}(nothing)
const SHARED_LOCK = ReentrantLock()

"The context of what names none; made at first use, and again if it was closed."
function shared_context()
    lock(SHARED_LOCK) do
        SHARED[] !== nothing && isopen(SHARED[]) || (SHARED[] = Context())
        return SHARED[]
    end
end

"""
    Cancel()

A flag by which any task or thread stops the calls that were given it, `cancel = …`: `request!` makes them throw a
`MnemoError` of code `MNEMO_E_CANCELLED`, and later ones at once, until `reset!`.

A call does not let other tasks of its thread run: request from another thread, or let them run in `progress`,
`progress = (done, total) -> yield()`.
"""
struct Cancel <: Resource
    handle::Handle
    Cancel() = new(Handle(:Cancel, :mnemo_cancel_release, :mnemo_cancel_create))
end

# These two fill no error: their only one is a NULL flag, which a handle is not.
function flag(cancel::Cancel, name::Symbol)
    holding([cancel.handle]) do
        ccall(symbol(name), Int32, (Ptr{Cvoid},), address(cancel))
    end
    return nothing
end

"""
    request!(cancel)

Asks every call that was given `cancel` to stop. Any thread, at any time.
"""
request!(cancel::Cancel) = flag(cancel, :mnemo_cancel_request)

"""
    reset!(cancel)

Makes `cancel` usable for new calls; one that is still running under it may miss the request.
"""
reset!(cancel::Cancel) = flag(cancel, :mnemo_cancel_reset)
