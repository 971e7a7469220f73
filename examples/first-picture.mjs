// The shortest way from a class to a file.
import { loadModel } from "nextscale";

const model = await loadModel(); // the bundled digits; or the path of a checkpoint
const [seven] = await model.generate({ labels: 7, seed: 42 }).images();
await seven.toFile("seven.png");
console.log(`seven.png: ${seven.width} × ${seven.height}, drawn on ${model.device}`);
await model.dispose();
