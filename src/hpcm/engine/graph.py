"""Whether the graph in a weights file is one that hpcm may have written: a weights file is data, never a program.

ONNX can do more than compute a network: loop without end, make tensors of any size, and read files that it names. So a
graph is read here, before ONNX Runtime sees it, for what hpcm's own hold: operations of a short list without graphs
inside, small constants, and weights that lie in the weights file. ONNX is protocol buffers, of which this reads the few
bytes that it needs: https://protobuf.dev/programming-guides/encoding, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

from collections import defaultdict

from ..model.config import MAX_WIDTH

OPERATIONS = set(
    b"Add Cast Concat Constant Conv ConvTranspose DepthToSpace LeakyRelu Max Min "
    b"Mul Neg Reshape Round Slice SpaceToDepth Squeeze Transpose Unsqueeze".split()
)
MAX_NODES = 1024
MAX_CONSTANT = 64  # bytes
MAX_SIZE = 8  # of a kernel, its stride, its padding, and a block of DepthToSpace
WHERE = {1: [b"location"], 2: [b"weights"]}  # what stands where the weights would, if they were not in the weights file
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
# Names of fields, by their numbers; a message with any other is refused.
MODEL = {1: "ir_version", 2: "producer_name", 3: "producer_version", 7: "graph", 8: "opset_import"}
GRAPH = {1: "node", 2: "name", 5: "initializer", 11: "input", 12: "output", 13: "value_info"}
NODE = {1: "input", 2: "output", 3: "name", 4: "op_type", 5: "attribute"}
ATTRIBUTE = {1: "name", 2: "f", 3: "i", 4: "s", 5: "t", 8: "ints", 20: "type"}
CONSTANT = {1: "dims", 2: "data_type", 8: "name", 9: "raw_data"}
WEIGHT = {1: "dims", 2: "data_type", 8: "name", 13: "external_data", 14: "data_location"}

Message = dict[int, list]  # field number: its values, int or bytes


def check(graph: bytes) -> None:
    """Raises ValueError for a graph that hpcm doesn't write."""
    graphs = _message(graph, MODEL)[7]
    if len(graphs) != 1:  # several would be read as one
        raise ValueError(f"it has {len(graphs)} graphs instead of one")
    found = _message(graphs[0], GRAPH)
    if len(found[1]) > MAX_NODES:
        raise ValueError(f"it has {len(found[1])} operations, and {MAX_NODES} are allowed")
    for node in found[1]:
        _check_node(_message(node, NODE))
    for tensor in found[5]:
        _check_weight(_message(tensor, WEIGHT))


def _check_node(node: Message) -> None:
    if not all(operation in OPERATIONS for operation in node[4]):
        raise ValueError(f"it has an operation {node[4]}, which hpcm has no use for")
    for data in node[5]:
        attribute = _message(data, ATTRIBUTE)
        for tensor in attribute[5]:
            if any(len(_bytes(value)) > MAX_CONSTANT for value in _message(tensor, CONSTANT)[9]):
                raise ValueError(f"it has a constant of over {MAX_CONSTANT} bytes")
        size = MAX_WIDTH if attribute[1] == [b"group"] else MAX_SIZE
        for value in (*attribute[3], *attribute[8]):
            numbers = _packed(value) if isinstance(value, bytes) else [value]
            if any(number > size for number in numbers):
                raise ValueError(f"{node[4]} has an attribute {attribute[1]} over {size}")


def _check_weight(tensor: Message) -> None:
    """Its numbers lie in the weights file, and nowhere else."""
    if [_message(entry, WHERE) for entry in tensor[13]] != [WHERE]:
        raise ValueError("it has weights of its own, or in another file")


def _message(data: int | bytes, known: dict) -> Message:
    """The fields of a message, all of which must be `known`."""
    fields: Message = defaultdict(list)
    at, data = 0, _bytes(data)
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        value: int | bytes
        if kind == VARINT:
            value, at = _varint(data, at)
        else:
            size = {FIXED64: 8, FIXED32: 4}.get(kind)
            if size is None:
                size, at = _varint(data, at)
            value = data[at : at + size]
            at += size
        if number not in known or kind not in (VARINT, FIXED64, BYTES, FIXED32) or at > len(data):
            raise ValueError(f"it has a field {number} of kind {kind} that hpcm doesn't write, or is damaged")
        fields[number].append(value)
    return fields


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(f"it has the number {value} where hpcm writes bytes")
    return value


def _packed(data: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(number)
    return numbers


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("it is damaged")
