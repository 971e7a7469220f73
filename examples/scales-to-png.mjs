// Every scale as a picture of its own, while the next one is being computed.
import { loadModel } from "nextscale";

const model = await loadModel();
// "linear" maps the feature map to colours with one small matrix; "decode" runs the real decoder at every scale, which
// is slow.
const generation = model.generate({ labels: 3, seed: 7, preview: "linear" });
for await (const scale of generation) {
  const path = `scale-${scale.index + 1}.png`;
  await scale.preview.toFile(path);
  console.log(`${path}: ${scale.side} × ${scale.side} tokens after ${scale.elapsedMs.toFixed(1)} ms`);
}
const [image] = await generation.images();
await image.toFile("final.png");
console.log("final.png: the decoded picture");
await model.dispose();
