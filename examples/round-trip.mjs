// A picture becomes tokens, tokens become a picture, and the model says which class explains them best.
import { loadModel } from "nextscale";

const model = await loadModel();
const [drawn] = await model.generate({ labels: 4, seed: 11 }).images();

const tokens = await model.encode(drawn); // any picture of the model's size will do: Image.from("four.png")
const [again] = await model.decode(tokens);
const error = again.data.reduce((sum, value, i) => sum + Math.abs(value - drawn.data[i]), 0) / again.data.length;
console.log(`${tokens.flat.length} tokens; the round trip changes a pixel by ${error.toFixed(1)} of 255 on average`);

const losses = [];
for (let label = 0; label < model.architecture.numClasses; label++) {
  losses.push((await model.score({ tokens, labels: label })).mean); // nats per token: lower is less surprised
}
const best = losses.indexOf(Math.min(...losses));
console.log(`best explained as "${model.classNames[best]}": ${losses[best].toFixed(2)} nats per token`);
await model.dispose();
