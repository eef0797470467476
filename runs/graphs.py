"""Makes src/hpcm/assets/graphs: what ONNX Runtime computes for the released architectures, without weights.

python runs/graphs.py

Needed when the networks of an architecture change, which no released model's ever do.
"""

from hpcm import atomic, storage
from hpcm.engine.export import graphs
from hpcm.engine.torch import load_model
from hpcm.weights import GRAPHS, find

for name in ("nano", "lite"):
    made = graphs(load_model(find(name)).model)
    data = storage.pack_graphs(made, {})
    atomic.write(GRAPHS / f"{name}.safetensors", data, force=True)
    print(f"{name}: {len(made)} graphs, {sum(map(len, made.values())):,} bytes, {len(data):,} compressed")
