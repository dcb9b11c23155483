const SIDES = [384, 224, 160];  // about how wide a picture is in a grid of 1, 2, or more columns
const panels = new Map();        // from label and size to the panel of these tracks
const pictures = new WeakMap();  // from a canvas to its track

function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

/* A frame is its values and its bits "undecided"; each is stored as the difference (xor) to the one before. */
async function unpack(track) {
  const stream = new Blob([bytesOf(track.packed)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  track.size = track.height * track.width * track.channels;
  track.stride = track.size + Math.ceil(track.size / 8);
  for (let i = track.stride; i < bytes.length; i++) bytes[i] ^= bytes[i - track.stride];
  track.bytes = bytes;
  track.given = bytesOf(track.given);
}

const bit = (bytes, start, i) => (bytes[start + (i >> 3)] >> (7 - (i & 7))) & 1;
const valueAt = (track, frame, i) => track.bytes[frame * track.stride + i];
const undecidedAt = (track, frame, i) => bit(track.bytes, frame * track.stride + track.size, i);

function buildTrack(track) {
  const canvas = element("canvas", "");
  canvas.width = track.width;
  canvas.height = track.height;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", track.label);
  pictures.set(canvas, track);
  track.canvas = canvas;
  track.image = new ImageData(track.width, track.height);
  const key = JSON.stringify([track.label, track.height, track.width, track.channels]);
  if (!panels.has(key)) {
    const grid = element("div", "pictures");
    panels.set(key, Object.assign(buildPanel(track.label, grid), { grid, tracks: [] }));
  }
  track.panel = panels.get(key);
  track.panel.tracks.push(track);
  track.panel.grid.append(canvas);
  arrange(track.panel);
}

/* As many rows as columns, or a row less, at a scale that is a whole number. */
function arrange({ grid, tracks }) {
  const columns = Math.ceil(Math.sqrt(tracks.length));
  const side = SIDES[Math.min(columns, SIDES.length) - 1];
  const { width, height } = tracks[0];
  const scale = Math.max(Math.floor(side / Math.max(width, height)), 1);
  grid.style.gridTemplateColumns = "repeat(" + columns + ", auto)";
  for (const { canvas } of tracks) canvas.style.width = scale * width + "px";
}

/* The look of undecided sub-pixels: see shown() in pictures.py. */
function drawPixels(track, frame) {
  const { width, height, channels, image } = track;
  for (let pixel = 0; pixel < width * height; pixel++) {
    const ground = data.ground[(Math.floor(pixel / width) + (pixel % width)) % 2];
    const first = pixel * channels;
    let masked = 0;
    for (let c = 0; c < channels; c++) masked += undecidedAt(track, frame, first + c);
    for (let c = 0; c < 3; c++) {
      const i = first + (channels === 1 ? 0 : c);
      const faint = masked === channels ? ground[c] : (ground[c] + data.middle) >> 1;
      image.data[4 * pixel + c] = undecidedAt(track, frame, i) ? faint : valueAt(track, frame, i);
    }
    image.data[4 * pixel + 3] = 255;
  }
  track.canvas.getContext("2d").putImageData(image, 0, 0);
}

function drawTrack(track, index) {
  const { panel } = track;
  if (track.now !== index) drawPixels(track, index);
  track.now = index;
  const frames = panel.tracks.map((other) => other.frames[other.now || 0]);
  const done = frames.reduce((sum, frame) => sum + frame.done, 0) / frames.length;
  panel.bar.style.width = 100 * done + "%";
  panel.counts.textContent = cost(frames[0]);
}

/* Returns a line about a sub-pixel in the present frame. */
function describe(track, i) {
  if (bit(track.given, 0, i)) return valueAt(track, track.now, i) + ", given";
  if (undecidedAt(track, track.now, i)) return "undecided";
  let frame = track.now;
  while (frame > 0 && !undecidedAt(track, frame - 1, i)) frame--;
  const when = frame > 0 ? ", decided in step " + track.frames[frame].step : "";
  return valueAt(track, track.now, i) + when;
}

function tipAt(event) {
  const track = pictures.get(event.target);
  if (!track) return null;
  const box = event.target.getBoundingClientRect();
  const place = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
  const x = place((event.clientX - box.left) / box.width, track.width);
  const y = place((event.clientY - box.top) / box.height, track.height);
  const names = track.channels === 1 ? ["grey"] : ["red", "green", "blue"];
  const first = (y * track.width + x) * track.channels;
  const lines = names.map((name, c) => name + " " + describe(track, first + c));
  const spot = { left: event.clientX + 12, top: event.clientY, bottom: event.clientY };
  return { text: ["row " + y + ", column " + x, ...lines].join("\n"), box: spot };
}
