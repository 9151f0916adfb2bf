# SPDX-License-Identifier: MIT OR Apache-2.0
# The library: loading it, calling it, its errors.

const LIBRARY = Ref{Ptr{Cvoid}}(C_NULL)

function load_library()
    chosen = get(ENV, "MNEMO_LIBRARY", "")
    name = isempty(chosen) ? "libmnemo.so.$(ABI.MAJOR)" : chosen
    library = try
        Libdl.dlopen(name)
    catch exception
        hint = isempty(chosen) ?
            "install it where the loader looks, add its folder to LD_LIBRARY_PATH, or set MNEMO_LIBRARY to its path" :
            "MNEMO_LIBRARY is set to it"
        error("the mnemo library $name could not be loaded; $hint ($(sprint(showerror, exception)))")
    end
    check_abi(ccall(Libdl.dlsym(library, :mnemo_abi_version), UInt32, ()), name)
    return library
end

function check_abi(version::UInt32, name)
    major, minor = version >> 16, version & 0xffff
    major == ABI.MAJOR && minor >= ABI.MINOR ||
        error("$name has ABI version $major.$minor; this package needs $(ABI.MAJOR).$(ABI.MINOR) or a later minor one")
end

symbol(name::Symbol) = Libdl.dlsym(LIBRARY[], name)::Ptr{Cvoid}

"""
    Mnemo.version()

The version of the library that is loaded.
"""
version() = VersionNumber(unsafe_string(ccall(symbol(:mnemo_version), Cstring, ())))

"""
    Mnemo.abi_version()

The ABI version of the library that is loaded: major and minor.
"""
function abi_version()
    packed = ccall(symbol(:mnemo_abi_version), UInt32, ())
    return VersionNumber(packed >> 16, packed & 0xffff)
end

"""
    MnemoError <: Exception

What the library reports when it refuses or fails a call.

- `code::Int`: the status, and `name::String` its name, such as `"MNEMO_E_SHAPE"`;
- `native::Int`: the number of the layer below (errno, a CUDA error), or 0;
- `message::String`: the argument, what was given and what is accepted. It counts from 0, and calls a sample a row.

What cannot be handed to the library at all is an `ArgumentError` or a `DimensionMismatch` of this package.
"""
struct MnemoError <: Exception
    code::Int
    native::Int
    name::String
    message::String
end

function Base.showerror(io::IO, e::MnemoError)
    print(io, e.name, ": ", e.message)
    e.native == 0 || print(io, " (native error ", e.native, ")")
end

"""
    Mnemo.status_name(code)

The name of a status of the library, such as `"MNEMO_E_SHAPE"`.
"""
status_name(code::Integer) = unsafe_string(ccall(symbol(:mnemo_status_name), Cstring, (Int32,), code))

function check(code::Int32, err::Base.RefValue{ABI.mnemo_error})
    code == 0 && return nothing
    message = GC.@preserve err unsafe_string(Ptr{UInt8}(address(err)) + fieldoffset(ABI.mnemo_error, 5), err[].len)
    throw(MnemoError(code, err[].native, status_name(code), message))
end

# An argument of a call is a number, a pointer, or something that roots all the memory its address leads to. What follows
# is the same code for arguments of all types, for compiling it takes longer than most calls do.
address(x::Union{Ptr,Float64,Int32,Int64,UInt32,UInt64}) = x
address(::Nothing) = C_NULL
address(x::Base.RefValue{T}) where {T} = Ptr{Cvoid}(Base.unsafe_convert(Ptr{T}, x))
address(x::Array) = Ptr{Cvoid}(pointer(x))
address(x::String) = Ptr{Cvoid}(Base.unsafe_convert(Cstring, x)) # refuses a NUL inside

"The handle that an argument is or brings along: `close` of it takes effect when the call has ended."
handle(_) = nothing

# Other threads may collect garbage meanwhile: between enter and leave nothing of Julia's is touched.
@generated function blocking(f::Ptr{Cvoid}, args::Tuple)
    all(isbitstype, args.parameters) || error("arguments of a native call must be plain bits: $args")
    values = [:(args[$i]) for i in eachindex(args.parameters)]
    return quote
        state = ccall(:jl_gc_safe_enter, Int8, ())
        code = ccall(f, Int32, ($(args.parameters...),), $(values...))
        ccall(:jl_gc_safe_leave, Cvoid, (Int8,), state)
        return code
    end
end

"Calls the function `name` and returns its status and its error. Ctrl-C waits, for it must not unwind native frames."
function status(name::Symbol, @nospecialize(args...))
    err = Ref{ABI.mnemo_error}()
    f = symbol(name)
    code = holding(Any[handle(x) for x in args]) do
        GC.@preserve args err begin
            values = (Any[address(x) for x in args]..., address(err))
            disable_sigint(() -> blocking(f, values)::Int32)
        end
    end
    return code, err
end

"Runs `f` while the `handles`, of which some are nothing, are in use."
function holding(f, handles)
    held = Handle[]
    try
        for h in handles
            h === nothing || push!(held, enter(h))
        end
        return f()
    finally
        foreach(leave, held)
    end
end

"Calls the function `name`, and throws its error."
native(name::Symbol, @nospecialize(args...)) = check(status(name, args...)...)

"A struct for the library, and what its pointers lead to."
struct Options{T}
    value::Base.RefValue{T}
    roots::Any
end

address(o::Options) = address(o.value)

"""
The option struct `T` with its initial values, as the library's function `init` sets them, and the `changes`, a named tuple.
Symbols are constants; `nothing` leaves the initial value.
"""
function options(::Type{T}, init::Symbol, @nospecialize(changes = NamedTuple())) where {T}
    value = Ref{T}()
    ccall(symbol(init), Cvoid, (Ref{T}, Csize_t), value, sizeof(T))
    for (name, change) in pairs(changes)
        change === nothing && continue
        i = Base.fieldindex(T, name)
        GC.@preserve value store(Ptr{fieldtype(T, i)}(address(value) + fieldoffset(T, i)), name, change)
    end
    return Options{T}(value, changes)
end

store(to::Ptr{T}, name, value) where {T} = unsafe_store!(to, field(T, name, value))

field(::Type{T}, name, value::Symbol) where {T} = T(ABI.constant(name, value))
field(::Type{Ptr{Cvoid}}, name, @nospecialize(value)) = address(value)

function field(::Type{T}, name, @nospecialize(value)) where {T}
    try
        return convert(T, value)
    catch
        throw(ArgumentError("$name is $(repr(value)), which is no $T"))
    end
end
