"""Pickles made to do harm, or to mislead: each with the reason for which it must be refused.

Every known abuse of the opcodes is here. Those that would run code in Python's own `pickle` try to make the folder
`CANARY` in the working folder, so that a test can see that it was not made.
"""

import struct

CANARY = "canary"

PROTO = b"\x80\x02"


def text(value: str) -> bytes:
    """BINUNICODE."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value: int) -> bytes:
    """BININT up to 31 bits, LONG1 beyond."""
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


def tuple_of(*parts: bytes) -> bytes:
    """MARK ... TUPLE."""
    return b"(" + b"".join(parts) + b"t"


def table(*pairs: bytes) -> bytes:
    """EMPTY_DICT MARK ... SETITEMS."""
    return b"}(" + b"".join(pairs) + b"u"


def named(module: str, name: str) -> bytes:
    """GLOBAL."""
    return f"c{module}\n{name}\n".encode()


def identity(key: str = "0", count: bytes = whole(4), kind: bytes = named("torch", "FloatStorage")) -> bytes:
    """BINPERSID of a storage."""
    return tuple_of(text("storage"), kind, text(key), text("cpu"), count) + b"Q"


def tensor(
    shape: tuple[int, ...] = (4,),
    strides: tuple[int, ...] = (1,),
    offset: bytes = whole(0),
    storage: bytes = identity(),
) -> bytes:
    """A call of `_rebuild_tensor_v2`; as it stands, a vector of four numbers in storage 0."""
    hooks = named("collections", "OrderedDict") + b")R"
    extents = [tuple_of(*(whole(number) for number in numbers)) for numbers in (shape, strides)]
    return named("torch._utils", "_rebuild_tensor_v2") + tuple_of(storage, offset, *extents, b"\x89", hooks) + b"R"


def saved(*more: bytes) -> bytes:
    """A pickle with the tensor "x" and, beside it, the value "y" that `more` makes."""
    return PROTO + table(text("x"), tensor(), *([text("y"), *more] if more else [])) + b"."


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """GLOBAL ... REDUCE."""
    return named(module, name) + tuple_of(*arguments) + b"R"


_MKDIR = named("os", "mkdir")
_FOLDER = text(CANARY)
_ATTACK = "which no file of weights needs: it may be an attack"

CODE = {
    "REDUCE os.mkdir": (saved(_MKDIR + tuple_of(_FOLDER) + b"R"), f"names 'os.mkdir', {_ATTACK}"),
    "REDUCE posix.system": (saved(call("posix", "system", text(f"mkdir {CANARY}"))), "names 'posix.system'"),
    "REDUCE builtins.eval": (saved(call("builtins", "eval", text("1"))), "names 'builtins.eval'"),
    "REDUCE builtins.exec": (
        saved(call("builtins", "exec", text(f"import os; os.mkdir('{CANARY}')"))),
        "builtins.exec",
    ),
    "REDUCE __builtin__.eval": (saved(call("__builtin__", "eval", text("1"))), "names '__builtin__.eval'"),
    "REDUCE builtins.getattr": (
        saved(call("builtins", "getattr", _MKDIR, text("__call__"))),
        "'builtins.getattr'|'os.",
    ),
    "REDUCE builtins.open": (saved(call("builtins", "open", text(CANARY), text("w"))), "names 'builtins.open'"),
    "REDUCE builtins.__import__": (saved(call("builtins", "__import__", text("os"))), "a name with '__' around it"),
    "REDUCE importlib": (saved(call("importlib", "import_module", text("os"))), "names 'importlib.import_module'"),
    "REDUCE subprocess.run": (saved(call("subprocess", "run", text("true"))), "names 'subprocess.run'"),
    "REDUCE runpy": (saved(call("runpy", "_run_code", text(""))), "names 'runpy._run_code'"),
    "REDUCE pip": (saved(call("pip._internal", "main", text("install"))), "names 'pip._internal.main'"),
    "REDUCE torch.load": (saved(call("torch", "load", text("/tmp/a"))), "'torch.load', and of PyTorch only plain"),
    "REDUCE torch.hub": (saved(call("torch.hub", "load", text("a/b"))), "'torch.hub.load', and of PyTorch only plain"),
    "REDUCE torch.jit": (saved(call("torch.jit._script", "load", text("a"))), "of PyTorch only plain"),
    "REDUCE sparse": (saved(call("torch._utils", "_rebuild_sparse_tensor")), "of PyTorch only plain dense tensors"),
    "REDUCE quantised": (saved(call("torch._utils", "_rebuild_qtensor")), "of PyTorch only plain dense tensors"),
    "REDUCE numpy array": (saved(call("torch._utils", "_rebuild_device_tensor_from_numpy")), "of PyTorch only plain"),
    "REDUCE a function of a library": (
        saved(call("some.library", "run", _FOLDER)),
        "calls the function 'some.library.run'",
    ),
    "REDUCE numpy's runstring": (saved(call("numpy.testing", "runstring", _FOLDER)), "calls the function 'numpy"),
    "REDUCE a text": (saved(text("os.mkdir") + tuple_of(_FOLDER) + b"R"), "calls what is not a name"),
    "REDUCE with a list": (
        saved(named("collections", "OrderedDict") + b"]R"),
        "calls what is not a name, or with what",
    ),
    "REDUCE a storage": (saved(call("torch", "FloatStorage", whole(2**40))), "would make a tensor by calling"),
    "REDUCE a type": (saved(call("torch", "float32")), "would make a tensor by calling"),
    "REDUCE Tensor": (saved(call("torch", "Tensor", whole(2**40))), "would make a tensor by calling"),
    "REDUCE _reconstructor": (saved(call("copyreg", "_reconstructor", _MKDIR, _MKDIR, b"N")), "names 'os.mkdir'"),
    "NEWOBJ Popen": (saved(named("subprocess", "Popen") + tuple_of(_FOLDER) + b"\x81"), "names 'subprocess.Popen'"),
    "NEWOBJ a function": (saved(named("torch._utils", "_rebuild_tensor_v2") + b")\x81"), "which is not a class"),
    "NEWOBJ Parameter": (saved(named("torch.nn.parameter", "Parameter") + b")\x81"), "would make a tensor by calling"),
    "NEWOBJ a lower-case name": (saved(named("library", "run") + b")\x81"), "calls the function 'library.run'"),
    "NEWOBJ a text": (saved(_FOLDER + b")\x81"), "makes an object of what is not a class"),
    "NEWOBJ_EX Popen": (saved(named("subprocess", "Popen") + b")}\x92"), "names 'subprocess.Popen'"),
    "NEWOBJ_EX a list": (saved(named("a", "B") + b")]\x92"), "with what are not arguments"),
    "BUILD a class": (saved(named("a", "B") + b"}b"), "gives a state to a name, which has none"),
    "BUILD a tensor": (saved(tensor() + b"}b"), "gives a state to a StoredTensor"),
    "BUILD a list": (saved(b"]}b"), "gives a state to a list"),
    "INST": (saved(b"(" + _FOLDER + b"ios\nmkdir\n"), "has the opcode INST"),
    "OBJ": (saved(b"(" + _MKDIR + _FOLDER + b"o"), "names 'os.mkdir'"),
    "OBJ of a harmless class": (saved(b"(" + named("a", "B") + b"o"), "has the opcode OBJ"),
    "EXT1": (saved(b"\x82\x01"), "has the opcode EXT1"),
    "EXT2": (saved(b"\x83\x01\x00"), "has the opcode EXT2"),
    "EXT4": (saved(b"\x84\x01\x00\x00\x00"), "has the opcode EXT4"),
    "STACK_GLOBAL": (saved(text("os") + text("mkdir") + b"\x93" + tuple_of(_FOLDER) + b"R"), "names 'os.mkdir'"),
    "STACK_GLOBAL of numbers": (saved(b"K\1K\2\x93"), "a name that is not made of two texts"),
    "STACK_GLOBAL of names": (saved(named("a", "B") * 2 + b"\x93"), "a name that is not made of two texts"),
    "GLOBAL dotted": (saved(named("os", "path.join")), "'os.path.join', which is not the name of a class"),
    "GLOBAL dotted through a class": (saved(named("torch.nn", "Linear.forward")), "which is not the name of a class"),
    "GLOBAL with underscores": (saved(named("collections", "__builtins__")), "a name with '__' around it"),
    "GLOBAL in underscores": (saved(named("torch.__init__", "Size")), "a name with '__' around it"),
    "GLOBAL of no module": (saved(named("", "mkdir")), "which is not the name of a class"),
    "GLOBAL with a path": (saved(named("../evil", "Run")), "which is not the name of a class"),
    "GLOBAL of 2000 letters": (saved(named("a" * 2000, "B")), "a line without end, or longer than 1000"),
    "GLOBAL without an end": (PROTO + b"cos", "a line without end"),
}
"""Pickles that name or call what they should not."""

_LAUGHS = (b"](" + b"h\0" * 10 + b"eq\0" + b"0") * 40 + b"h\0"
_HASHES = b"h\0h\0\x86q\0" * 60

STRUCTURE = {
    "PERSID": (saved(b"Pos\n"), "has the opcode PERSID"),
    "BINPERSID a text": (saved(_FOLDER + b"Q"), "a persistent identity that is not of a storage"),
    "BINPERSID of a file": (
        saved(tuple_of(*[text("file")] * 5) + b"Q"),
        "a persistent identity that is not of a storage",
    ),
    "BINPERSID of an unknown type": (saved(identity(kind=named("a", "B"))), "a storage of an unknown type"),
    "BINPERSID of a text as type": (saved(identity(kind=text("FloatStorage"))), "a storage of an unknown type"),
    "BINPERSID with a path": (saved(identity("../../etc/passwd")), "a storage whose key is not a number"),
    "BINPERSID with a zero": (saved(identity("0\0")), "a storage whose key is not a number"),
    "BINPERSID negative": (saved(identity("1", whole(-4))), "not described by a place and a number of elements"),
    "BINPERSID true": (saved(identity("1", b"\x88")), "not described by a place and a number of elements"),
    "BINPERSID huge": (saved(identity("1", whole(2**62))), "not described by a place and a number of elements"),
    "BINPERSID twice": (saved(identity("0", whole(8))), "describes its storage 0 in two ways"),
    "BINPERSID of two types": (saved(identity(kind=named("torch", "HalfStorage"))), "storage 0 in two ways"),
    "BINPERSID of no data": (saved(identity("7")), "storage 7 is missing|list of storages is not that"),
    "memo of 4 billion": (saved(b"Nr\xff\xff\xff\xff"), "keeps a value at place 4294967295"),
    "memo by text": (saved(b"Np-1\n"), "a place that is not a number"),
    "memo that is not there": (saved(b"j\xff\xff\xff\xff"), "asks for a value at place 4294967295"),
    "billion laughs": (saved(b"Nq\0" + b"0" + _LAUGHS), "it holds more than 40000 values"),
    "billion laughs of tensors": (saved(tensor() + b"q\0" + b"0" + _LAUGHS), "it holds more than 40000 values"),
    "billion laughs as a key": (saved(b"Nq\0" + _HASHES + b"q\x010}h\x01Ns"), "a key of the kind tuple"),
    "a table in itself": (saved(b"}q\0" + text("a") + b"h\0s"), "nested more than 64 deep"),
    "a list in itself": (saved(b"]q\0h\0a"), "nested more than 64 deep"),
    "50000 lists": (saved(b"]" * 50_000 + b"a" * 49_999), "nested more than 64 deep"),
    "100000 marks": (saved(b"(" * 100_000), "nested more than 1000 deep"),
    "600000 opcodes": (saved(b"N0" * 300_000), "has more than 150000 opcodes"),
    "100000 objects": (saved(named("a", "B") + b"q\0" + b"h\0)\x810" * 70_000), "has more than 20000 names, calls"),
    "140000 opcodes, then none": (saved(b"(Nq\0t0" * 28_000 + b"\xff"), "opcode 255, which does not exist"),
    "140000 tuples around one another": (saved(b"N" + b"\x85" * 140_000 + b"\xff"), "opcode 255, which does not exist"),
    "70000 long numbers": (saved(b"L12345678901234567890L\n0" * 70_000 + b"\xff"), "more than 20000 names, calls"),
    "LONG4 of 2 GB": (saved(b"\x8b\xff\xff\xff\x7f"), "a whole number of 2147483647 bytes"),
    "LONG4 of negative length": (saved(b"\x8b\xff\xff\xff\xff"), "a whole number of 4294967295 bytes"),
    "LONG of 900 digits": (saved(b"L" + b"9" * 900 + b"L\n"), "a line that is not a whole number"),
    "LONG of a million digits": (saved(b"L" + b"9" * 1_000_000 + b"L\n"), "a line without end, or longer than 1000"),
    "INT of words": (saved(b"Ione\n"), "a line that is not a whole number"),
    "FLOAT of words": (saved(b"Fone\n"), "a line that is not a number"),
    "STRING with escapes": (saved(b"S'\\x41'\n"), "a line that is not a plain text"),
    "UNICODE with a broken escape": (saved(b"V\\u00\n"), "a line that is not text"),
    "BINUNICODE of 4 GB": (saved(b"X\xff\xff\xff\xff"), "says 4294967295 bytes where"),
    "BINUNICODE8 of 2**63": (saved(b"\x8d" + struct.pack("<Q", 2**63)), "says 9223372036854775808 bytes where"),
    "BINBYTES8 of 2**64": (saved(b"\x8e" + b"\xff" * 8), "says 18446744073709551615 bytes where"),
    "BYTEARRAY8 of 2**40": (saved(b"\x96" + struct.pack("<Q", 2**40)), "says 1099511627776 bytes where"),
    "BINSTRING of 4 GB": (saved(b"T\xff\xff\xff\xff"), "says 4294967295 bytes where"),
    "bytes of no text": (saved(b"X\1\0\0\0\xff"), "a text that is not UTF-8"),
    "FRAME beyond the end": (b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b"N.", "a frame of 1099511627776 bytes"),
    "FRAME in a frame": (saved(b"\x95" + struct.pack("<Q", 12) + b"\x95" + bytes(8) + b"NNN"), "inside another"),
    "FRAME that ends within an opcode": (saved(b"\x95" + struct.pack("<Q", 2) + b"X\1\0\0\0a"), "within an opcode"),
    "PROTO 255": (b"\x80\xff}.", "says protocol 255"),
    "PROTO 6": (b"\x80\x06}.", "says protocol 6"),
    "PROTO twice": (saved(b"\x80\x02N"), "says protocol 2 at byte"),
    "no STOP": (saved()[:-1], "no end within|opcode|more or less than one"),
    "nothing to stop with": (PROTO + b".", "ends with more or less than one value"),
    "two values": (PROTO + b"NN.", "ends with more or less than one value"),
    "an open mark": (PROTO + b"(N.", "ends with more or less than one value"),
    "an empty stack": (PROTO + b"a", "from an empty stack"),
    "TUPLE2 of one": (PROTO + b"N\x86", "from an empty stack"),
    "TUPLE without a mark": (PROTO + b"Nt", "a mark that is not there"),
    "DUP of nothing": (PROTO + b"2", "needs a value on an empty stack"),
    "opcode 255": (PROTO + b"\xff", "opcode 255, which does not exist"),
    "NEXT_BUFFER": (saved(b"\x97"), "opcode NEXT_BUFFER"),
    "READONLY_BUFFER": (saved(b"N\x98"), "opcode READONLY_BUFFER"),
    "a list as a key": (saved(b"}]Ns"), "a key of the kind list"),
    "a table as a key": (saved(b"}(}Nu"), "a key of the kind dict"),
    "a tensor as a key": (saved(b"}" + tensor() + b"Ns"), "a key of the kind StoredTensor"),
    "one key twice": (PROTO + table(text("x"), tensor(), text("x"), tensor()) + b".", "a table with one key twice"),
    "one key twice, as a number": (saved(table(b"K\1N", b"\x88N")), "a table with one key twice"),
    "one name twice": (
        PROTO + table(text("a.b"), tensor(), text("a"), table(text("b"), tensor())) + b".",
        "a name that is there twice",
    ),
    "a key without a value": (saved(b"}(Nu"), "a key without a value"),
    "APPEND to a table": (saved(b"}Na"), "appends to what is not a list"),
    "SETITEM of a list": (saved(b"]NNs"), "sets entries of what is not a table"),
    "bytes that are not Latin-1": (saved(call("_codecs", "encode", text("☃"), text("latin1"))), "Latin-1"),
    "bytes in a codec of one's own": (saved(call("_codecs", "encode", text("a"), text("rot13"))), "Latin-1"),
    "a set of a number": (saved(call("builtins", "set", whole(3))), "a collection made of what is not a list"),
    "no tensors": (PROTO + b"}.", "it holds no tensors|list of storages is not that"),
}
"""Pickles with lying lengths, bombs, and machines driven against their walls."""

_V3 = named("torch._utils", "_rebuild_tensor_v3")
_BYTES = identity("0", whole(16), named("torch.storage", "UntypedStorage"))


def lone(value: bytes, name: str = "x") -> bytes:
    """A pickle with one tensor."""
    return PROTO + table(text(name), value) + b"."


TENSORS = {
    "offset beyond the storage": (lone(tensor(offset=whole(1))), "reaches beyond its storage of 16 bytes"),
    "negative offset": (lone(tensor(offset=whole(-1))), "not up to 8 whole numbers from 0"),
    "shape beyond the storage": (lone(tensor((5,))), "reaches beyond its storage of 16 bytes"),
    "strides beyond the storage": (lone(tensor((2, 2), (3, 1))), "reaches beyond its storage of 16 bytes"),
    "negative strides": (lone(tensor((4,), (-1,))), "not up to 8 whole numbers from 0"),
    "negative shape": (lone(tensor((-4,))), "not up to 8 whole numbers from 0"),
    "stride 0": (lone(tensor((2**40,), (0,))), "whose elements overlap"),
    "overlapping windows": (lone(tensor((2, 3), (1, 1))), "whose elements overlap"),
    "overlapping, in another order": (lone(tensor((2, 2, 2), (1, 2, 1))), "whose elements overlap"),
    "shape beyond 64 bits": (lone(tensor((2**40, 2**40), (1, 2**47))), "impossible shape"),
    "a zero that hides a shape": (lone(tensor((0, 2**40, 2**40), (1, 1, 1))), "impossible shape"),
    "nine dimensions": (lone(tensor((1,) * 9, (1,) * 9)), "not up to 8 whole numbers from 0"),
    "more strides than extents": (lone(tensor((4,), (1, 1))), "1 extents and 2 strides"),
    "an offset that is true": (lone(tensor(offset=b"\x88")), "not up to 8 whole numbers from 0"),
    "an offset that is a fraction": (lone(tensor(offset=b"G" + bytes(8))), "not up to 8 whole numbers from 0"),
    "no storage": (lone(tensor(storage=b"N")), "not made from a storage of its type"),
    "a storage of no type": (lone(tensor(storage=_BYTES)), "not made from a storage of its type"),
    "too few arguments": (lone(call("torch._utils", "_rebuild_tensor_v2", identity())), "without storage, offset"),
    "a shape that is a list": (
        lone(call("torch._utils", "_rebuild_tensor_v2", identity(), whole(0), b"](K\4e", tuple_of(whole(1)))),
        "not up to 8 whole numbers from 0",
    ),
    "version 3 of no type": (lone(_V3 + tuple_of(_BYTES, *[b"N"] * 6) + b"R"), "a tensor of an unknown type"),
    "version 3 of a class": (lone(_V3 + tuple_of(_BYTES, *[b"N"] * 5, named("a", "B")) + b"R"), "of an unknown type"),
    "a parameter of a text": (lone(call("torch._utils", "_rebuild_parameter", text("a"))), "not made from a tensor"),
    "a tensor of a foreign class": (
        lone(
            call(
                "torch._tensor",
                "_rebuild_from_type_v2",
                named("torch._utils", "_rebuild_tensor_v2"),
                named("a", "B"),
                b")",
                b"N",
            )
        ),
        "a tensor of an unknown class",
    ),
    "a tensor of a class that is a list": (
        lone(
            call(
                "torch._tensor", "_rebuild_from_type_v2", named("torch._utils", "_rebuild_tensor_v2"), b"]", b")", b"N"
            )
        ),
        "a tensor of an unknown class",
    ),
    "a path as a name": (lone(tensor(), "../../x"), "a name that is a path"),
    "an absolute path as a name": (lone(tensor(), "/etc/passwd"), "a name that is a path"),
    "a drive as a name": (lone(tensor(), "C:\\x"), "a name that is a path"),
    "an attribute as a name": (lone(tensor(), "x.__class__.__base__"), "an attribute of Python"),
    "a new line in a name": (lone(tensor(), "a\nb"), "not printable text"),
    "a long name": (lone(tensor(), "a" * 1001), "1001 characters long"),
}
"""Pickles whose tensors reach beyond their storage, seem larger than they are, or have names that mislead."""

PICKLES = CODE | STRUCTURE | TENSORS
