"""Run a rendering pass on torch's own OpenMP team.

No second pool beside torch's: its threads wait for work by spinning, and would take the cores from ours. A pass
enters the team once, and its phases (`parallel`) are handed over in memory: the caller posts a job, every thread
that sees it takes ranges of indices until none is left, and the caller waits for those that took part, no others.
Kernels write disjoint outputs, so neither the split nor the number of threads can change a result.
"""

from __future__ import annotations

import ctypes
import os

import numpy as np
import torch
from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.core.extending import intrinsic

from gs_ssd.render.compilation import without_cache_if_need_be

GRAIN = 512  # Gaussians per range
# A team's state, a cache line each (byte offsets): the posted job, how many are at work on it, is the pass over.
_JOB, _INSIDE, _CLOSED = 0, 64, 128
_I64 = ir.IntType(64)
_POINTER = ir.IntType(8).as_pointer()
_TASK = ir.FunctionType(ir.VoidType(), [_POINTER])


def run(kernel, *args):
    """`kernel(team, *args)` with a team of as many threads as torch uses, the caller's included.

    A kernel's first call, which compiles it or loads it, is the caller's alone.
    """
    threads = torch.get_num_threads()
    if threads < 2 or not kernel.signatures or _library is None:
        return kernel(0, *args)
    state = np.zeros(3 * 8, np.int64)
    team = state.ctypes.data
    serve, data = ctypes.c_void_p(_serve.address), ctypes.c_void_p(team)
    try:  # An interrupt can strike once the team has started, not before: it waits for the end of a call.
        _library.GOMP_parallel_start(serve, data, threads)
        return kernel(team, *args)
    finally:
        state[_CLOSED // 8] = 1
        _library.GOMP_parallel_end()


def _address(builder, team, offset):
    return builder.inttoptr(builder.add(team, _I64(offset)), _I64.as_pointer())


def _load(builder, team, offset):
    return builder.load_atomic(_address(builder, team, offset), "seq_cst", 8)


def _yield(builder):
    """Spin politely: an idle core returns at once, a busy one goes to whoever else wants it."""
    sched_yield = ir.FunctionType(ir.IntType(32), [])
    builder.call(cgutils.get_or_insert_function(builder.module, sched_yield, "sched_yield"), [])


@intrinsic
def parallel(typingctx, team, kernel, count, grain, args):
    """Inside a pass: call `kernel(start, stop, *args)` on ranges of `grain` indices that cover range(count)."""
    call = kernel.get_call_type(typingctx, (types.int64, types.int64, *args.types), {})

    def codegen(context, builder, sig, values):
        team, _, count, grain, arguments = values
        compiled = kernel.dispatcher.get_compile_result(call)
        context.active_code_library.add_linking_library(compiled.library)
        task = ir.Function(builder.module, _TASK, builder.module.get_unique_name("task"))
        task.linkage = "internal"
        failed = cgutils.alloca_once_value(builder, cgutils.false_bit)
        next_ = cgutils.alloca_once_value(builder, _I64(0))
        job = cgutils.alloca_once_value(
            builder, cgutils.pack_struct(builder, [task, next_, failed, count, grain, arguments])
        )
        _emit_task(context, task, job.type, compiled.fndesc, call)

        data = builder.bitcast(job, _POINTER)
        alone = builder.or_(builder.icmp_signed("<=", count, grain), builder.icmp_signed("==", team, _I64(0)))
        with builder.if_else(alone) as (then, otherwise):
            with then:
                builder.call(task, [data])
            with otherwise:
                posted = _address(builder, team, _JOB)
                builder.store_atomic(builder.ptrtoint(data, _I64), posted, "seq_cst", 8)
                builder.call(task, [data])
                builder.store_atomic(_I64(0), posted, "seq_cst", 8)
                wait, rest, done = (builder.append_basic_block() for _ in range(3))
                builder.branch(wait)
                builder.position_at_end(wait)
                builder.cbranch(builder.icmp_signed("==", _load(builder, team, _INSIDE), _I64(0)), done, rest)
                builder.position_at_end(rest)
                _yield(builder)
                builder.branch(wait)
                builder.position_at_end(done)
        with builder.if_then(builder.load(failed), likely=False):
            context.call_conv.return_user_exc(builder, MemoryError, ("a rendering kernel failed",))
        return context.get_dummy_value()

    return types.none(types.int64, kernel, types.int64, types.int64, args), codegen


def _emit_task(context, task, job_type, fndesc, call):
    """One thread's share of a job: take the next range until none is left."""
    builder = ir.IRBuilder(task.append_basic_block())
    job = builder.load(builder.bitcast(task.args[0], job_type))
    _, next_, failed, count, grain, arguments = cgutils.unpack_tuple(builder, job)
    take, work, end = (task.append_basic_block() for _ in range(3))
    builder.branch(take)
    builder.position_at_end(take)
    start = builder.atomic_rmw("add", next_, grain, "monotonic")
    builder.cbranch(builder.icmp_signed("<", start, count), work, end)
    builder.position_at_end(work)
    stop = builder.add(start, grain)
    stop = builder.select(builder.icmp_signed("<", stop, count), stop, count)
    status, _ = context.call_internal_no_propagate(
        builder, fndesc, call, [start, stop, *cgutils.unpack_tuple(builder, arguments)]
    )
    with builder.if_then(status.is_error, likely=False):
        builder.store(cgutils.true_bit, failed)
    builder.branch(take)
    builder.position_at_end(end)
    builder.ret_void()


@intrinsic
def _closed(typingctx, team):
    return types.int64(types.int64), lambda context, builder, sig, values: _load(builder, values[0], _CLOSED)


@intrinsic
def _help(typingctx, team):
    """Take part in the posted job, if there is one. It stays valid while somebody is inside."""

    def codegen(context, builder, sig, values):
        (team,) = values
        _yield(builder)
        with builder.if_then(builder.icmp_signed("!=", _load(builder, team, _JOB), _I64(0))):
            inside = _address(builder, team, _INSIDE)
            builder.atomic_rmw("add", inside, _I64(1), "seq_cst")
            job = _load(builder, team, _JOB)
            with builder.if_then(builder.icmp_signed("!=", job, _I64(0))):
                task = builder.load(builder.inttoptr(job, _TASK.as_pointer().as_pointer()))
                builder.call(task, [builder.inttoptr(job, _POINTER)])
            builder.atomic_rmw("sub", inside, _I64(1), "seq_cst")
        return context.get_dummy_value()

    return types.none(types.int64), codegen


def _serve_until_closed(team):
    while not _closed(team):
        _help(team)


def _callback(function):
    signature = types.void(types.int64)
    with without_cache_if_need_be():
        return cfunc(signature, cache=True)(function)
    return cfunc(signature)(function)


_serve = _callback(_serve_until_closed)


_library = None if os.name == "nt" else ctypes.CDLL(None)
if not hasattr(_library, "GOMP_parallel_start"):  # another OpenMP runtime: the caller works alone
    _library = None
