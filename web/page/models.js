/** The models in words, and which of them compress a picture. */
import { cached } from "hpcm-web";

const WORDS = {
  nano: ["Quick", "the quick model"],
  lite: ["Better looking", "the better looking model"],
  "lite-mse": ["Closest by numbers", "the model closest by numbers"],
};
const MUCH = 2; // times as many bytes: then the smaller model answers first

/** @param {{name: string, bytes: number}} model @returns the same with a label, and what it is called in a sentence */
export function inWords(model) {
  const [label, called] = WORDS[model.name.replace(/-\d+$/, "")] ?? [model.name, `the model ${model.name}`];
  return { ...model, label, called };
}

/** The model of a file, by what its header says. */
export function modelOf({ hash, model }, models) {
  return models.find((each) => each.hash === hash) ?? { name: model, bytes: 0, label: model, called: model };
}

/** Where there is no list: the module tells why. */
const UNLISTED = { name: undefined, bytes: 0, label: "hpcm", called: "the model" };

/**
 * The models that compress a picture, one after the other: a smaller one comes first where the default has to be fetched.
 * @param {{default: string, models: object[]}} listed
 * @param {string} [chosen] the name of the one that somebody chose
 */
export async function planOf({ default: standard, models }, chosen) {
  const wanted = models.find(({ name }) => name === (chosen ?? standard));
  if (!wanted) return [UNLISTED];
  if (chosen) return [wanted];
  const quick = models.reduce((least, each) => (each.bytes < least.bytes ? each : least));
  if (MUCH * quick.bytes > wanted.bytes || (await cached(wanted.name))) return [wanted];
  return [quick, wanted];
}
