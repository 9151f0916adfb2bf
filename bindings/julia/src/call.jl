# SPDX-License-Identifier: MIT OR Apache-2.0
# Calls that can take long: seed, cancel, progress, and the functions that the library calls back.

"What the callbacks of one call need: its functions, and a place for the first exception."
mutable struct Call
    progress::Any
    observer::Any
    stream::Ptr{Cvoid}
    caught::Union{Nothing,CapturedException}
end

struct Exec
    options::Options{ABI.mnemo_exec}
    cancel::Union{Nothing,Cancel}
    call::Call
end

address(e::Exec) = address(e.options)
handle(e::Exec) = e.cancel === nothing ? nothing : e.cancel.handle

"""
The keywords that every long call has: `seed`, `cancel` and `progress`; and of CUDA contexts `stream`, the call's, an address, and
`check`: wait, and report NaN and Inf in what is on the device.
"""
function Exec(; seed = 0, cancel::Union{Nothing,Cancel} = nothing, progress = nothing, observer = nothing, stream = C_NULL,
    check::Bool = false)
    of_call = Ptr{Cvoid}(UInt(stream))
    flags = check ? ABI.EXEC_CHECK : 0
    chosen = options(ABI.mnemo_exec, :mnemo_exec_init, (; seed, cancel, progress = ON_PROGRESS[], stream = of_call, flags))
    return Exec(chosen, cancel, Call(progress, observer, of_call, nothing))
end

"Calls the function `name`, with `exec` as its last argument; throws what a callback threw, or the call's error."
function run(exec::Exec, name::Symbol, @nospecialize(args...))
    # The callbacks run in this task and find their call here, also when one of them calls the library in turn.
    code, err = task_local_storage(() -> status(name, args..., exec), Call, exec.call)
    exec.call.caught === nothing || reraise(exec.call.caught)
    check(code, err)
end

# The exception itself, "caused by" it with the backtrace of the callback.
function reraise(caught::CapturedException)
    try
        throw(caught)
    catch
        throw(caught.ex)
    end
end

const ON_PROGRESS = Ref{Ptr{Cvoid}}(C_NULL)
const ON_STEP = Ref{Ptr{Cvoid}}(C_NULL)
const ON_EVAL = Ref{Ptr{Cvoid}}(C_NULL)
const ON_JVP = Ref{Ptr{Cvoid}}(C_NULL)
const ON_DROP = Ref{Ptr{Cvoid}}(C_NULL)

on_progress(::Ptr{Cvoid}, done, total) = entered(guarded, progressed, done, total)
on_step(::Ptr{Cvoid}, step, t, x) = entered(guarded, stepped, step, t, x)
on_eval(user, x, t, out, stream) = entered(guarded, evaluated, user, x, t, out, stream)
on_jvp(user, x, t, v, out, stream) = entered(guarded, differentiated, user, x, t, v, out, stream)
on_drop(user) = entered(dropped, user)

# From native code into Julia's: `blocking` left the garbage collector free to run beside it. Later versions of Julia do
# this themselves, and then it changes nothing.
function entered(f, args...)
    state = ccall(:jl_gc_unsafe_enter, Int8, ())
    result = f(args...)
    ccall(:jl_gc_unsafe_leave, Cvoid, (Int8,), state)
    return result
end

# Nothing may unwind the library's frames, and its call must go on in the thread it began in: no exception leaves this
# function, Ctrl-C reaches `f` alone, and the task stays where it is if `f` lets others run.
@noinline function guarded(f, args...)::Int32
    task = current_task()
    sticky, task.sticky = task.sticky, true
    try
        return reenable_sigint(() -> f(args...)) === false ? 1 : 0
    catch exception
        call = task_local_storage(Call)::Call
        call.caught === nothing && (call.caught = CapturedException(exception, catch_backtrace()))
        return 1
    finally
        task.sticky = sticky
    end
end

# Always there, so that Ctrl-C has a place to stop a call; `false` stops it.
function progressed(done, total)
    progress = (task_local_storage(Call)::Call).progress
    return progress === nothing || progress(Int(done), Int(total)) !== false
end

function stepped(step, t, x)
    call = task_local_storage(Call)::Call
    call.observer(Int(step), t, lent_matrix(x, call.stream))
    return true
end

"The functions of a custom score."
mutable struct Model
    eval::Any
    jvp::Any
    dropped::Bool
end

# Models that the library points to. What it has dropped leaves with the next that comes: `dropped` can run inside a
# finalizer, where a lock must not be taken and nothing may be thrown.
const MODELS = Model[]
const MODELS_LOCK = ReentrantLock()

function root(model::Model)
    lock(MODELS_LOCK) do
        push!(filter!(m -> !m.dropped, MODELS), model)
    end
    return pointer_from_objref(model)
end

model(user::Ptr{Cvoid}) = unsafe_pointer_to_objref(user)::Model

function evaluated(user, x, t, out, stream)
    model(user).eval(blank(lent_matrix(out, stream)), lent_matrix(x, stream), lent_vector(t, stream))
    return true
end

function differentiated(user, x, t, v, out, stream)
    inputs = lent_matrix(x, stream), lent_vector(t, stream), lent_matrix(v, stream)
    model(user).jvp(blank(lent_matrix(out, stream)), inputs...)
    return true
end

# NaN, which the library refuses, shows what the model leaves unwritten in the host's memory.
blank(out::Array) = fill!(out, NaN)
blank(out::DeviceArray) = out

@noinline function dropped(user)
    m = model(user)
    m.eval = m.jvp = nothing
    m.dropped = true
    return nothing
end

function make_callbacks()
    ON_PROGRESS[] = @cfunction(on_progress, Int32, (Ptr{Cvoid}, UInt64, UInt64))
    ON_STEP[] = @cfunction(on_step, Int32, (Ptr{Cvoid}, UInt64, Float64, Ptr{ABI.mnemo_tensor}))
    ON_EVAL[] = @cfunction(on_eval, Int32,
        (Ptr{Cvoid}, Ptr{ABI.mnemo_tensor}, Ptr{ABI.mnemo_tensor}, Ptr{ABI.mnemo_tensor}, Ptr{Cvoid}))
    ON_JVP[] = @cfunction(on_jvp, Int32,
        (Ptr{Cvoid}, Ptr{ABI.mnemo_tensor}, Ptr{ABI.mnemo_tensor}, Ptr{ABI.mnemo_tensor}, Ptr{ABI.mnemo_tensor}, Ptr{Cvoid}))
    ON_DROP[] = @cfunction(on_drop, Cvoid, (Ptr{Cvoid},))
end
