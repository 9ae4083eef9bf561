"""A 16-lane vector type for numba kernels.

LLVM's loop vectoriser is a heuristic; a rasteriser wants a guarantee. `Vec` is a numba type that *is* an LLVM
`<16 x float>` (or `<16 x double>`), so one AVX-512 register, two AVX ones or four NEON ones, chosen by LLVM.
Inside `@njit` code it supports `+ - * /`, unary minus, comparisons (which give a `Mask`), `& | ~` on masks, and
the functions below; a scalar operand is broadcast. Nothing is contracted or reassociated behind our back, so a
forward and a backward kernel that share a formula agree to the last bit: fused operations are written `fma`.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic, models, overload, register_model
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.np.arrayobj import make_array, populate_array

LANES = 16


def inlined(function):
    """A helper of kernels, compiled into each of them. It makes no arrays (see `compilation.task`)."""
    return njit(nogil=True, forceinline=True, _nrt=False)(function)


@njit(nogil=True)
def aligned(count, like):
    """An uninitialised array of the type of `like` that starts on a cache line, so that no vector straddles two."""
    buffer = np.empty(count + LANES, like.dtype)
    skip = -buffer.ctypes.data % 64 // buffer.itemsize
    return buffer[skip : skip + count]


@intrinsic(prefer_literal=True)
def room(typingctx, like, count):
    """An uninitialised array of the type of `like`, as long as the constant `count`.

    It starts on a cache line, and is gone when the function ends.
    """
    if not isinstance(count, types.IntegerLiteral):
        return None

    def codegen(context, builder, sig, args):
        element = context.get_data_type(like.dtype)
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(element, count.literal_value))
            memory.align = 64
        size = context.get_constant(types.intp, context.get_abi_sizeof(element))
        data = builder.bitcast(memory, element.as_pointer())
        length = context.get_constant(types.intp, count.literal_value)
        return _array(context, builder, sig.return_type, data, length, size)

    return types.Array(like.dtype, 1, "C")(like, count), codegen


@intrinsic
def array_at(typingctx, like, address, count):
    """The `count` elements of the type of `like` that lie at an address; it belongs to somebody who keeps it."""

    def codegen(context, builder, sig, args):
        element = context.get_data_type(like.dtype)
        size = context.get_constant(types.intp, context.get_abi_sizeof(element))
        data = builder.inttoptr(args[1], element.as_pointer())
        return _array(context, builder, sig.return_type, data, args[2], size)

    return types.Array(like.dtype, 1, "C")(like, types.int64, types.int64), codegen


def _array(context, builder, kind, data, count, size):
    array = make_array(kind)(context, builder)
    populate_array(array, data=data, shape=[count], strides=[size], itemsize=size, meminfo=None)
    return array._getvalue()


@inlined
def fill_lanes(lanes, start, stop):
    """lanes[:] = start, start + 1, ...; past the end the last index is repeated, and its work redone."""
    for lane in range(LANES):
        lanes[lane] = min(start + lane, stop - 1)


class Vec(types.Type):
    """16 floats of type `dtype`."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(name=f"Vec({dtype})")


class Mask(types.Type):
    """16 booleans."""

    def __init__(self):
        super().__init__(name="Mask")


MASK = Mask()
_I1 = ir.VectorType(ir.IntType(1), LANES)
_I32 = ir.VectorType(ir.IntType(32), LANES)


def _llvm(vec: Vec) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if vec.dtype == types.float32 else ir.DoubleType(), LANES)


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _llvm(fe_type))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _I1)


def _broadcast(context, builder, value, given, vec: Vec):
    """`value` of numba type `given` as a `vec`."""
    if isinstance(given, Vec):
        return value
    scalar = context.cast(builder, value, given, vec.dtype)
    one = builder.insert_element(
        ir.Constant(_llvm(vec), ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
    )
    return builder.shuffle_vector(one, one, ir.Constant(_I32, [0] * LANES))


def _vec_of(args) -> Vec | None:
    return next((a for a in args if isinstance(a, Vec)), None)


def _define(symbol, result, emit):
    """Teach numba that `symbol(Vec or number, ...)` has type `result(vec)` and is emitted by `emit`."""

    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            vec = _vec_of(args)
            if vec is not None and all(isinstance(a, Vec | types.Number) for a in args):
                return signature(result(vec), *args)

    def lower(context, builder, sig, args):
        vec = _vec_of(sig.args)
        return emit(builder, *(_broadcast(context, builder, v, t, vec) for v, t in zip(args, sig.args)))

    for kinds in ((Vec,), (Vec, Vec), (Vec, types.Number), (types.Number, Vec)):
        lower_builtin(symbol, *kinds)(lower)


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.iadd, "fadd"),
    (operator.sub, "fsub"),
    (operator.isub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define(_symbol, lambda vec: vec, lambda builder, a, b, name=_name: getattr(builder, name)(a, b))
for _symbol, _name in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"), (operator.ge, ">=")):
    _define(_symbol, lambda vec: MASK, lambda builder, a, b, name=_name: builder.fcmp_ordered(name, a, b))
_define(operator.neg, lambda vec: vec, lambda builder, a: builder.fneg(a))


def _define_mask(symbol, emit, arity):
    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == arity and all(isinstance(a, Mask) for a in args):
                return signature(MASK, *args)

    lower_builtin(symbol, *[Mask] * arity)(lambda context, builder, sig, args: emit(builder, *args))


_define_mask(operator.and_, lambda builder, a, b: builder.and_(a, b), 2)
_define_mask(operator.or_, lambda builder, a, b: builder.or_(a, b), 2)
_define_mask(operator.invert, lambda builder, a: builder.not_(a), 1)


def _call(builder, name, returns, *args):
    """Call the LLVM intrinsic `name`, whose overload suffix is already in the name."""
    function = builder.module.declare_intrinsic(name, (), ir.FunctionType(returns, [a.type for a in args]))
    return builder.call(function, args)


def _suffix(vec: Vec) -> str:
    return f"v{LANES}f{vec.dtype.bitwidth}"


@intrinsic
def load(typingctx, array, start):
    """`array[start : start + 16]` of a contiguous 1-D array."""
    vec = Vec(array.dtype)

    def codegen(context, builder, sig, args):
        return builder.load(_address(context, builder, sig, args), align=array.dtype.bitwidth // 8)

    return vec(array, start), codegen


@intrinsic
def store(typingctx, array, start, value):
    """`array[start : start + 16] = value`."""

    def codegen(context, builder, sig, args):
        value_ = _broadcast(context, builder, args[2], value, Vec(array.dtype))
        builder.store(value_, _address(context, builder, sig, args), align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, start, value), codegen


def _address(context, builder, sig, args):
    array = sig.args[0]
    data = make_array(array)(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), _llvm(Vec(array.dtype)).as_pointer())


@intrinsic
def item(typingctx, array, index):
    """`array[index]` of an index that is not negative, at which numba would look."""

    def codegen(context, builder, sig, args):
        return builder.load(builder.gep(make_array(array)(context, builder, args[0]).data, [args[1]]))

    return array.dtype(array, types.int64), codegen


@intrinsic
def put(typingctx, array, index, value):
    """`array[index] = value`, as `item` reads it."""

    def codegen(context, builder, sig, args):
        value_ = context.cast(builder, args[2], value, array.dtype)
        builder.store(value_, builder.gep(make_array(array)(context, builder, args[0]).data, [args[1]]))
        return context.get_dummy_value()

    return types.none(array, types.int64, value), codegen


@intrinsic
def gather(typingctx, array, rows, stride, column):
    """`array[rows[lane] * stride + column]`, with `rows` an int64 array of 16."""
    vec = Vec(array.dtype)

    def codegen(context, builder, sig, args):
        value = ir.Constant(_llvm(vec), ir.Undefined)
        for lane, address in enumerate(_row_addresses(context, builder, sig, args)):
            value = builder.insert_element(value, builder.load(address), ir.Constant(ir.IntType(32), lane))
        return value

    return vec(array, rows, stride, column), codegen


@intrinsic
def scatter(typingctx, array, rows, stride, column, value):
    """`array[rows[lane] * stride + column] = value[lane]`, lane 0 first; towards zero if the array is integral."""

    def codegen(context, builder, sig, args):
        value_ = args[4]
        if isinstance(array.dtype, types.Integer):
            value_ = builder.fptosi(value_, ir.VectorType(ir.IntType(array.dtype.bitwidth), LANES))
        for lane, address in enumerate(_row_addresses(context, builder, sig, args)):
            builder.store(builder.extract_element(value_, ir.Constant(ir.IntType(32), lane)), address)
        return context.get_dummy_value()

    return types.none(array, rows, stride, column, value), codegen


def _row_addresses(context, builder, sig, args):
    data = make_array(sig.args[0])(context, builder, args[0]).data
    rows = make_array(sig.args[1])(context, builder, args[1]).data
    for lane in range(LANES):
        row = builder.load(builder.gep(rows, [ir.Constant(ir.IntType(64), lane)]))
        yield builder.gep(data, [builder.add(builder.mul(row, args[2]), args[3])])


def _interleaved(vec: Vec, columns: int) -> ir.VectorType:
    return ir.VectorType(_llvm(vec).element, columns * LANES)


def _load_columns(columns: int):
    @intrinsic
    def load_columns(typingctx, array, start):
        vec = Vec(array.dtype)

        def codegen(context, builder, sig, args):
            address = _address(context, builder, sig, args)
            wide = _interleaved(vec, columns)
            values = builder.load(
                builder.bitcast(address, wide.as_pointer()), align=array.dtype.bitwidth // 8
            )
            unused = ir.Constant(wide, ir.Undefined)
            picked = [
                builder.shuffle_vector(
                    values, unused, ir.Constant(_I32, [columns * lane + k for lane in range(LANES)])
                )
                for k in range(columns)
            ]
            return context.make_tuple(builder, sig.return_type, picked)

        return types.UniTuple(vec, columns)(array, start), codegen

    return load_columns


# The columns of `array[start : start + 16 k]` read as k columns in row-major order.
load2, load3, load4 = _load_columns(2), _load_columns(3), _load_columns(4)


@intrinsic
def store_columns(typingctx, array, start, vectors):
    """Write 2 to 4 vectors as the columns of a row-major block from `array[start]` on; towards zero if integral."""

    def codegen(context, builder, sig, args):
        count, integral = len(vectors), isinstance(array.dtype, types.Integer)
        element = ir.IntType(array.dtype.bitwidth) if integral else _llvm(vectors[0]).element
        narrow, wide = ir.VectorType(element, LANES), ir.VectorType(element, count * LANES)
        columns = [builder.extract_value(args[2], k) for k in range(count)]
        if integral:
            columns = [builder.fptosi(column, narrow) for column in columns]
        both = ir.VectorType(ir.IntType(32), 2 * LANES)
        join = ir.Constant(both, list(range(2 * LANES)))
        first = builder.shuffle_vector(columns[0], columns[1], join)
        second = builder.shuffle_vector(columns[min(2, count - 1)], columns[-1], join)
        mask = [k * LANES + lane for lane in range(LANES) for k in range(count)]
        order = ir.Constant(ir.VectorType(ir.IntType(32), count * LANES), mask)
        data = make_array(array)(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), wide.as_pointer())
        builder.store(builder.shuffle_vector(first, second, order), address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, start, vectors), codegen


def _transpose(builder, vectors):
    """16 vectors of 16: the columns of their matrix."""
    vectors = list(vectors)
    for span in (1, 2, 4, 8):
        low = ir.Constant(_I32, [i if not i & span else LANES + i - span for i in range(LANES)])
        high = ir.Constant(_I32, [i + span if not i & span else LANES + i for i in range(LANES)])
        for i in range(LANES):
            if not i & span:
                a, b = vectors[i], vectors[i + span]
                vectors[i] = builder.shuffle_vector(a, b, low)
                vectors[i + span] = builder.shuffle_vector(a, b, high)
    return vectors


_I128 = [ir.Constant(ir.VectorType(ir.IntType(32), n), list(range(n))) for n in (8, 16)]


@intrinsic
def load_quads(typingctx, array, start):
    """Four times four: `array[start + 16 k : start + 16 k + 4]` for k = 0 ... 3, one behind the other."""
    vec = Vec(array.dtype)

    def codegen(context, builder, sig, args):
        parts = [builder.load(a, align=vec.dtype.bitwidth // 8) for a in _quads(context, builder, sig, args)]
        halves = [builder.shuffle_vector(parts[k], parts[k + 1], _I128[0]) for k in (0, 2)]
        return builder.shuffle_vector(*halves, _I128[1])

    return vec(array, start), codegen


@intrinsic
def store_quads(typingctx, array, start, value):
    """The inverse of `load_quads`."""

    def codegen(context, builder, sig, args):
        unused = ir.Constant(args[2].type, ir.Undefined)
        for k, address in enumerate(_quads(context, builder, sig, args)):
            quad = ir.Constant(ir.VectorType(ir.IntType(32), 4), [4 * k + i for i in range(4)])
            part = builder.shuffle_vector(args[2], unused, quad)
            builder.store(part, address, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, start, value), codegen


def _quads(context, builder, sig, args):
    array = sig.args[0]
    data = make_array(array)(context, builder, args[0]).data
    kind = ir.VectorType(_llvm(Vec(array.dtype)).element, 4).as_pointer()
    for k in range(4):
        at = builder.add(args[1], ir.Constant(ir.IntType(64), LANES * k))
        yield builder.bitcast(builder.gep(data, [at]), kind)


@intrinsic
def append_rows(typingctx, array, ids, row, first, bits, vectors):
    """Append rows of 16 to `array`: for each set bit `lane`, that lane of the 16 vectors, and `first + lane` to `ids`.

    `row` is the number of rows before; the number after is returned. The row after the last one is overwritten.
    """

    def codegen(context, builder, sig, args):
        i64 = ir.IntType(64)
        data = make_array(array)(context, builder, args[0]).data
        names = make_array(ids)(context, builder, args[1]).data
        row_, first_, bits_ = args[2:5]
        columns = [builder.extract_value(args[5], k) for k in range(LANES)]
        for lane, values in enumerate(_transpose(builder, columns)):
            address = builder.gep(data, [builder.mul(row_, ir.Constant(i64, LANES))])
            builder.store(
                values, builder.bitcast(address, values.type.as_pointer()), align=array.dtype.bitwidth // 8
            )
            name = builder.trunc(builder.add(first_, ir.Constant(i64, lane)), ir.IntType(ids.dtype.bitwidth))
            builder.store(name, builder.gep(names, [row_]))
            bit = builder.and_(builder.lshr(bits_, ir.Constant(i64, lane)), ir.Constant(i64, 1))
            row_ = builder.add(row_, bit)
        return row_

    return types.int64(array, ids, types.int64, types.int64, types.int64, vectors), codegen


@intrinsic
def load_rows(typingctx, array, rows):
    """The 16 columns of the rows `array[16 rows[lane] : 16 rows[lane] + 16]`, with `rows` an int64 array of 16."""
    vec = Vec(array.dtype)

    def codegen(context, builder, sig, args):
        data = make_array(array)(context, builder, args[0]).data
        rows_ = make_array(rows)(context, builder, args[1]).data
        values = []
        for lane in range(LANES):
            row = builder.load(builder.gep(rows_, [ir.Constant(ir.IntType(64), lane)]))
            address = builder.gep(data, [builder.mul(row, ir.Constant(ir.IntType(64), LANES))])
            address = builder.bitcast(address, _llvm(vec).as_pointer())
            values.append(builder.load(address, align=array.dtype.bitwidth // 8))
        return context.make_tuple(builder, sig.return_type, _transpose(builder, values))

    return types.UniTuple(vec, LANES)(array, rows), codegen


@intrinsic
def store_bits(typingctx, words, pairs, start):
    """16 int64: bit k of `words[b]` is bit b of the second number of the pair of int32 at `pairs[start + 2 k]`."""
    i32, i64 = ir.IntType(32), ir.IntType(64)

    def codegen(context, builder, sig, args):
        data = make_array(words)(context, builder, args[0]).data
        source = builder.gep(make_array(pairs)(context, builder, args[1]).data, [args[2]])
        wide = ir.VectorType(i32, 2 * LANES)
        odd = ir.Constant(_I32, [2 * lane + 1 for lane in range(LANES)])
        columns = [i64(0)] * LANES
        for part in range(0, 64, LANES):
            address = builder.bitcast(builder.gep(source, [i64(2 * part)]), wide.as_pointer())
            both = builder.load(address, align=4)
            second = builder.shuffle_vector(both, ir.Constant(wide, ir.Undefined), odd)
            for bit in range(LANES):
                shifted = builder.shl(second, ir.Constant(_I32, [31 - bit] * LANES))
                found = builder.icmp_signed("<", shifted, ir.Constant(_I32, [0] * LANES))
                found = builder.zext(builder.bitcast(found, ir.IntType(LANES)), i64)
                columns[bit] = builder.or_(columns[bit], builder.shl(found, i64(part)))
        for bit, column in enumerate(columns):
            builder.store(column, builder.gep(data, [i64(bit)]))
        return context.get_dummy_value()

    return types.none(words, pairs, types.int64), codegen


@intrinsic
def prefetch(typingctx, array, start):
    """Ask for the cache line of `array[start]`, which may lie out of bounds."""

    def codegen(context, builder, sig, args):
        data = make_array(array)(context, builder, args[0]).data
        address = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        flags = [ir.Constant(ir.IntType(32), flag) for flag in (0, 3, 1)]  # read, keep, data
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), address, *flags)
        return context.get_dummy_value()

    return types.none(array, start), codegen


@intrinsic
def splat(typingctx, like, value):
    """`value` in every lane, in the precision of the array or vector `like`."""
    vec = Vec(like.dtype)

    def codegen(context, builder, sig, args):
        return _broadcast(context, builder, args[1], value, vec)

    return vec(like, value), codegen


@intrinsic
def lane_columns(typingctx, like):
    """0 1 2 3 0 1 2 3 ...: the columns of 16 lanes laid out as a 4x4 square."""
    return _constant(like, [lane % 4 for lane in range(LANES)])


@intrinsic
def lane_rows(typingctx, like):
    """0 0 0 0 1 1 1 1 ...: the rows of 16 lanes laid out as a 4x4 square."""
    return _constant(like, [lane // 4 for lane in range(LANES)])


@intrinsic
def lane_halves(typingctx, like):
    """0 eight times, then 1."""
    return _constant(like, [lane // 8 for lane in range(LANES)])


@intrinsic
def lane_signs(typingctx, like):
    """1 1 1 1 -1 -1 -1 -1, twice."""
    return _constant(like, [1 - lane // 4 % 2 * 2 for lane in range(LANES)])


@intrinsic(prefer_literal=True)
def spread(typingctx, values, quad):
    """The lanes 4 `quad` ... 4 `quad` + 3 (a constant), each four times."""
    if not isinstance(quad, types.IntegerLiteral):
        return None

    def codegen(context, builder, sig, args):
        order = ir.Constant(_I32, [4 * quad.literal_value + lane // 4 for lane in range(LANES)])
        return builder.shuffle_vector(args[0], args[0], order)

    return values(values, quad), codegen


def _constant(like, values):
    vec = Vec(like.dtype)
    return vec(like), lambda context, builder, sig, args: ir.Constant(_llvm(vec), [float(v) for v in values])


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c, rounded once."""
    vec = _vec_of((a, b, c))

    def codegen(context, builder, sig, args):
        values = [_broadcast(context, builder, v, t, vec) for v, t in zip(args, sig.args)]
        return _call(builder, f"llvm.fma.{_suffix(vec)}", _llvm(vec), *values)

    return vec(a, b, c), codegen


@intrinsic
def select(typingctx, mask, a, b):
    """a where `mask`, else b."""
    vec = _vec_of((a, b))

    def codegen(context, builder, sig, args):
        a_, b_ = (_broadcast(context, builder, v, t, vec) for v, t in zip(args[1:], sig.args[1:]))
        return builder.select(args[0], a_, b_)

    return vec(mask, a, b), codegen


@intrinsic
def minimum(typingctx, a, b):
    """The smaller of a and b, lane by lane; b where either is NaN."""
    return _choose("<", a, b)


@intrinsic
def maximum(typingctx, a, b):
    """The larger of a and b, lane by lane; b where either is NaN."""
    return _choose(">", a, b)


def _choose(comparison, a, b):
    vec = _vec_of((a, b))

    def codegen(context, builder, sig, args):
        a_, b_ = (_broadcast(context, builder, v, t, vec) for v, t in zip(args, sig.args))
        return builder.select(builder.fcmp_ordered(comparison, a_, b_), a_, b_)

    return vec(a, b), codegen


@intrinsic
def sqrt(typingctx, a):
    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.sqrt.{_suffix(a)}", _llvm(a), args[0])

    return a(a), codegen


@intrinsic
def lane_bits(typingctx, mask):
    """The mask as an integer, lane 0 in the lowest bit."""

    def codegen(context, builder, sig, args):
        return builder.zext(builder.bitcast(args[0], ir.IntType(LANES)), ir.IntType(64))

    return types.int64(mask), codegen


@intrinsic
def lane_total(typingctx, values, bits):
    """The sum of the lanes whose bit is set, as an integer; the values are whole numbers below 2^27."""

    def codegen(context, builder, sig, args):
        whole = builder.fptosi(args[0], _I32)
        chosen = builder.bitcast(builder.trunc(args[1], ir.IntType(LANES)), _I1)
        whole = builder.select(chosen, whole, ir.Constant(_I32, [0] * LANES))
        total = _call(builder, f"llvm.vector.reduce.add.v{LANES}i32", ir.IntType(32), whole)
        return builder.zext(total, ir.IntType(64))

    return types.int64(values, types.int64), codegen


@intrinsic
def lowest_bit(typingctx, bits):
    """The index of the lowest set bit of a non-zero int64."""

    def codegen(context, builder, sig, args):
        return _call(builder, "llvm.cttz.i64", ir.IntType(64), args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@intrinsic
def _add_to_exponent(typingctx, a, b):
    """The float32 vector a with the low mantissa bits of b, as an integer, added to its exponent."""

    def codegen(context, builder, sig, args):
        bits = builder.shl(builder.bitcast(args[1], _I32), ir.Constant(_I32, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(args[0], _I32), bits), _llvm(a))

    return a(a, b), codegen


@intrinsic
def floor(typingctx, a):
    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.floor.{_suffix(a)}", _llvm(a), args[0])

    return a(a), codegen


@intrinsic
def ceil(typingctx, a):
    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.ceil.{_suffix(a)}", _llvm(a), args[0])

    return a(a), codegen


@intrinsic
def _exp2(typingctx, a):
    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.exp2.{_suffix(a)}", _llvm(a), args[0])

    return a(a), codegen


def exp2(x):
    """2^x for -126 <= x < 126, anything elsewhere.

    In float32 by a minimax polynomial on [-1/2, 1/2]; the relative error is below 2e-7.
    """


@overload(exp2, jit_options={"forceinline": True})
def _exp2_overload(x):
    if x.dtype == types.float64:
        return lambda x: _exp2(x)

    def fast(x):
        shifted = (
            x + 12582912.0
        )  # 1.5 * 2^23: the sum has no fraction bits, so it is x rounded, in its low bits
        f = x - (shifted - 12582912.0)
        ff = f * f  # Estrin's scheme: a shorter chain than Horner's
        high, middle = fma(f, 1.327647178e-3, 9.675541333e-3), fma(f, 5.550713274e-2, 2.402211972e-1)
        p = fma(fma(high, ff, middle), ff, fma(f, 6.931469671e-1, 1.000000072))
        return _add_to_exponent(p, shifted)

    return fast


@intrinsic
def _exponent(typingctx, a):
    """floor(log2(a)) for positive normal float32 vectors."""

    def codegen(context, builder, sig, args):
        bits = builder.lshr(builder.bitcast(args[0], _I32), ir.Constant(_I32, [23] * LANES))
        return builder.sitofp(builder.sub(bits, ir.Constant(_I32, [127] * LANES)), _llvm(a))

    return a(a), codegen


@intrinsic
def _log2(typingctx, a):
    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.log2.{_suffix(a)}", _llvm(a), args[0])

    return a(a), codegen


def log2(x):
    """Base-2 logarithm of a positive x. In float32 by the series of atanh, absolute error below 1e-6 over [2^-8, 1]."""


@overload(log2, jit_options={"forceinline": True})
def _log2_overload(x):
    if x.dtype == types.float64:
        return lambda x: _log2(x)

    def fast(x):
        n = _exponent(x * 1.4142135)  # mantissa in [2^-1/2, 2^1/2)
        m = _add_to_exponent(x, 12582912.0 - n)
        t = (m - 1.0) / (m + 1.0)
        tt = t * t
        p = fma(tt, 0.3205989, 0.4121986)
        p = fma(p, tt, 0.5770780)
        p = fma(p, tt, 0.9617967)
        p = fma(p, tt, 2.8853901)
        return fma(p, t, n)

    return fast


@intrinsic
def lane_sums(typingctx, vectors):
    """The horizontal sums of a tuple of up to 16 vectors, as one vector (unused lanes are 0).

    A butterfly: each stage adds two half-reduced vectors with one blend of their lanes, so 16 sums cost 15 adds.
    """
    vec = vectors[0]

    def codegen(context, builder, sig, args):
        rows = [builder.extract_value(args[0], i) for i in range(len(vectors))]
        rows += [ir.Constant(_llvm(vec), [0.0] * LANES)] * (LANES - len(rows))
        span = 1
        while len(rows) > 1:
            keep = [i if not i & span else LANES + i for i in range(LANES)]
            swap = [i + span if not i & span else LANES + i - span for i in range(LANES)]
            half = len(rows) // 2
            rows = [
                builder.fadd(
                    builder.shuffle_vector(a, b, ir.Constant(_I32, keep)),
                    builder.shuffle_vector(a, b, ir.Constant(_I32, swap)),
                )
                for a, b in zip(rows[0 : 2 * half : 2], rows[1 : 2 * half : 2])
            ]
            span *= 2
        return rows[0]

    return vec(vectors), codegen
