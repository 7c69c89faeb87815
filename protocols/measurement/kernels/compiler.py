"""From a kernel's source to object code that needs neither numba nor Python.

Decides what may be in such code: loads, stores, arithmetic, and what every C library has. A kernel that allocates
memory or raises is refused. Imported only when a kernel has no machine code yet.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from protocols.measurement.kernels.jit import fetch
from protocols.measurement.kernels.linked import NotAlone, link
from protocols.measurement.kernels.machine_code import (
    ARRAY_DATA,
    ARRAY_DIMENSIONS,
    BLOCK_AT,
    Code,
    Spec,
    Unusable,
    target_machine,
)

if TYPE_CHECKING:
    from protocols.measurement.kernels.jit import Kernel

_KNOWN: Final = frozenset({"memset", "memcpy", "memmove"})
# numba counts references of arrays; those that come in here have no counter, and so none is ever let go.
_NEVER: Final = """
declare void @llvm.trap()
define void @NRT_MemInfo_call_dtor(ptr %0) {
  call void @llvm.trap()
  unreachable
}
"""


def compile_kernel(kernel: Kernel, spec: Spec, name: str) -> Code:
    """Its code, whose entry point is called `name`."""
    llvm: Any = importlib.import_module("llvmlite.binding")

    numba: Any = importlib.import_module("numba")
    types = numba.types

    load, pointer_to = _intrinsics()
    scope: dict[str, Any] = {"carray": numba.carray, "f": kernel.dispatcher, "load": load}
    source = []
    for i, part in enumerate(spec):
        if part is None:
            continue
        kind, dimensions = part
        scope[f"pointer{i}"] = pointer_to(getattr(types, np.dtype(kind).name))
        sizes = "".join(f"load(load(a{i} + {ARRAY_DIMENSIONS}) + {8 * d})," for d in range(dimensions))
        source.append(f"    b{i} = carray(pointer{i}(load(a{i} + {ARRAY_DATA})), ({sizes}))")
    results = _result_count(kernel, spec)
    target = {0: "", 1: "out[0] = "}.get(results, ", ".join(f"out[{i}]" for i in range(results)) + " = ")
    names = ", ".join(f"a{i}" if part is None else f"b{i}" for i, part in enumerate(spec))
    source.append(f"    {target}f({names})")
    parameters = "".join(f"a{i}, " for i in range(len(spec)))
    text = f"def {name}({parameters}out):\n" + "\n".join(source) + "\n"
    exec(compile(text, f"<entry of {kernel.__name__}>", "exec"), scope)  # noqa: S102 - text is made of names above
    made = numba.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(scope[name])
    arguments = (*[types.int64] * len(spec), types.CPointer(types.int64))
    made.compile(arguments)
    overload = made.overloads[arguments]
    module = llvm.parse_assembly(overload.library.get_llvm_str())
    module.get_function(overload.fndesc.llvm_func_name).name = name
    if "NRT_MemInfo_call_dtor" in _undefined(module):
        module.link_in(llvm.parse_assembly(_NEVER))
    alone = module.clone()  # to emit code changes a module
    code: bytes = target_machine().emit_object(module)
    strangers = _undefined(module) - _KNOWN
    if strangers:
        raise Unusable(f"{kernel.__name__} calls {', '.join(sorted(strangers))}, which only numba can give")
    try:
        block = link(target_machine(moves=True).emit_object(alone), name, BLOCK_AT)
    except NotAlone:
        return Code(results, 0, b"", code)
    return Code(results, block.entry, block.code, code)


def _undefined(module: Any) -> set[str]:
    """What the code calls and does not hold, other than LLVM's own."""
    declared = {f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")}
    text = str(module)
    return {name for name in declared if text.count(f"@{name}(") > 1}


def _intrinsics() -> tuple[Any, Any]:
    """(the word at an address, a maker of casts from an address to a pointer), as numba's intrinsics."""
    ir: Any = importlib.import_module("llvmlite.ir")

    numba: Any = importlib.import_module("numba")
    types = numba.types
    intrinsic = numba.extending.intrinsic

    @intrinsic  # type: ignore[untyped-decorator]
    def load(_context: Any, _address: Any) -> Any:
        def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()))

        return types.int64(types.int64), code

    def pointer_to(dtype: Any) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def pointer(_context: Any, _address: Any) -> Any:
            def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

            return types.CPointer(dtype)(types.int64), code

        return pointer

    return load, pointer_to


@cache
def teach_fetch() -> None:
    """Tells numba what `jit.fetch` is: one prefetch instruction, which never fails and waits for nothing."""
    ir: Any = importlib.import_module("llvmlite.ir")

    numba: Any = importlib.import_module("numba")

    @numba.extending.intrinsic  # type: ignore[untyped-decorator]
    def prefetch(_context: Any, array: Any, _row: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            word, byte = ir.IntType(32), ir.IntType(8).as_pointer()
            name, kind = "llvm.prefetch.p0", ir.FunctionType(ir.VoidType(), [byte, word, word, word])
            instruction = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            at = builder.bitcast(builder.gep(data, [args[1]]), byte)
            builder.call(instruction, [at, word(0), word(3), word(1)])  # to be read, kept near, no code
            return context.get_dummy_value()

        return numba.types.void(array, numba.types.intp), code

    def compiled(array: Any, row: Any) -> Any:
        return lambda array, row: prefetch(array, row)

    numba.extending.overload(fetch, strict=False)(compiled)  # strict: a lambda has no annotations


def _result_count(kernel: Kernel, spec: Spec) -> int:
    types: Any = importlib.import_module("numba").types

    signature = tuple(
        types.int64 if part is None else types.Array(getattr(types, np.dtype(part[0]).name), part[1], "C")
        for part in spec
    )
    result = kernel.dispatcher.compile(signature) and kernel.dispatcher.overloads[signature].signature.return_type
    if isinstance(result, types.BaseTuple):
        return len(result)
    return 0 if result == types.none else 1
