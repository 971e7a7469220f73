/** What decides the draws of an image, beside its seed. */

import { integer, number, oneOrMore } from "./kinds.js";
import { row, table } from "./table.js";

/** Where neither the caller nor the checkpoint says. */
export const USUAL = { guidance: 1.5, topK: 900, topP: 0.96 };

const guidance = number(0, 1000);

export const DRAWING = table({
  guidance: row(
    oneOrMore(guidance, "a number or one number per scale"),
    "classifier-free guidance of the last scale, ramped up linearly from 0 at the first one; or one value per scale",
    { otherwise: `the checkpoint's, else ${USUAL.guidance}`, flag: "-g, --guidance <t>" },
  ),
  topK: row(integer(0), "draw from the K best tokens only; 0 = off, 1 = greedy", {
    otherwise: `the checkpoint's, else ${USUAL.topK}, at most the codebook's size`,
    flag: "--top-k <n>",
  }),
  topP: row(number(0, 1), "draw from the smallest set of tokens with this probability; 0 and 1 = off", {
    otherwise: `the checkpoint's, else ${USUAL.topP}`,
    flag: "--top-p <p>",
  }),
});

/** Settings that a checkpoint recommends: the defaults of drawing with it. */
export const RECOMMENDED = table({
  guidance: row(guidance, "recommended guidance", { flag: "--guidance <t>" }),
  topK: row(DRAWING.rows.topK.kind, "recommended top-k", { flag: DRAWING.rows.topK.flag }),
  topP: row(DRAWING.rows.topP.kind, "recommended top-p", { flag: DRAWING.rows.topP.flag }),
});
