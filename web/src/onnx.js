/**
 * Puts weights into a graph. The graphs that come with a model are ONNX files whose weights are only named; here they
 * become files with the numbers in them, by editing the protocol buffers: ModelProto.graph.initializer[].raw_data.
 */
import { HpcmError } from "./errors.js";
import { concat, varint } from "./wire.js";

const GRAPH = 7; // of ModelProto
const INITIALIZER = 5; // of GraphProto
const [NAME, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION] = [8, 9, 13, 14]; // of TensorProto
const PREFIX = "net.";
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5]; // wire types

/**
 * @param {Uint8Array} graph
 * @param {(name: string) => Float32Array} numbers of a weight by its name in the module
 */
export function withWeights(graph, numbers) {
  return edited(graph, GRAPH, (inner) => edited(inner, INITIALIZER, (tensor) => filled(tensor, numbers)));
}

function filled(tensor, numbers) {
  const all = [...fields(tensor)];
  const name = new TextDecoder().decode(all.find(({ number }) => number === NAME)?.content);
  if (!name.startsWith(PREFIX)) return tensor;
  const kept = all.filter(({ number }) => ![RAW_DATA, EXTERNAL_DATA, DATA_LOCATION].includes(number));
  const values = numbers(name.slice(PREFIX.length));
  const raw = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return concat([...kept.map(({ whole }) => whole), ...field(RAW_DATA, raw)]);
}

/** A message with the content of each field `number` replaced. */
function edited(message, number, change) {
  const pieces = [];
  for (const each of fields(message)) {
    if (each.number === number) pieces.push(...field(number, change(each.content)));
    else pieces.push(each.whole);
  }
  return concat(pieces);
}

const field = (number, content) => [Uint8Array.from([...varint(number * 8 + BYTES), ...varint(content.length)]), content];

/** The fields of a message: {number, whole, content}, content for those that are bytes. */
function* fields(message) {
  let at = 0;
  const number = () => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = message[at++];
      if (byte === undefined) throw new HpcmError("model", "a graph of the model is damaged");
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const start = at;
    const key = number();
    let content;
    if (key % 8 === VARINT) number();
    else if (key % 8 === FIXED64) at += 8;
    else if (key % 8 === FIXED32) at += 4;
    else if (key % 8 === BYTES) {
      const size = number();
      content = message.subarray(at, at + size);
      at += size;
    } else throw new HpcmError("model", "a graph of the model is damaged");
    if (at > message.length) throw new HpcmError("model", "a graph of the model is damaged");
    yield { number: Math.floor(key / 8), whole: message.subarray(start, at), content };
  }
}
