const maskedStates = ["masked", "waiting", "remasked"];
const slots = new WeakMap();  // from the element of a token to its slot
const LEAST_CONFIDENT = 55;  // per cent of the shade at confidence 0

/* Snapshots are stored as changes; unchanged tokens share one object, so drawing can compare. */
function unpack(track) {
  let tokens = [];
  for (const snapshot of track.snapshots) {
    tokens = tokens.slice(0, snapshot.length);
    for (const [index, piece, status, confidence] of snapshot.changes) {
      const before = tokens[index];
      const revealed = status === "revealed" ? snapshot.step : before ? before.revealed : null;
      tokens[index] = { piece, status, confidence, revealed };
    }
    snapshot.tokens = tokens;
    const open = tokens.filter((token) => token.status !== "given");
    const masked = open.filter((token) => maskedStates.includes(token.status)).length;
    snapshot.done = open.length ? 1 - masked / open.length : 1;
  }
}

/* Lines break between words: a word is nowrap, and the blank before it is outside of it. */
function buildText(parent, pieces) {
  let word = null;
  return pieces.map((piece) => {
    const core = piece.trim();
    const head = core ? piece.slice(0, piece.length - piece.trimStart().length) : "";
    const tail = core ? piece.slice(piece.trimEnd().length) : piece;
    for (const _ of head.matchAll(/\n/g)) parent.append(element("br", ""));
    if (head) parent.append(" ");
    if (!word || head) parent.append((word = element("span", "word")));
    const node = element("span", "token");
    const now = element("span", "now");
    node.append(element("span", "last", core || (piece && "\u00a0")), now);
    word.append(node);
    word.size = (word.size || 0) + core.length;
    if (word.size > 24) word.classList.add("long");
    for (const _ of tail.matchAll(/\n/g)) parent.append(element("br", ""));
    if (tail) { parent.append(" "); word = null; }
    return { node, now, shown: null };
  });
}

function buildTrack(track) {
  const text = element("p", "text");
  text.dir = "auto";
  document.body.classList.toggle("single", data.tracks.length === 1);
  Object.assign(track, buildPanel(track.label, text));
  track.nodes = buildText(text, track.last);
  track.nodes.forEach((slot) => slots.set(slot.node, slot));
}

function drawToken(slot, token) {
  if (slot.shown === token) return;
  slot.shown = token;
  slot.node.className = "token " + (token ? token.status : "absent");
  slot.now.textContent = token ? token.piece.trim() : "";
  const unsure = token && token.confidence !== null ? 1 - token.confidence : 0;
  slot.node.style.setProperty("--share", (LEAST_CONFIDENT * unsure).toFixed(1) + "%");
}

function drawTrack(track, index) {
  const snapshot = track.snapshots[index];
  track.nodes.forEach((slot, i) => drawToken(slot, snapshot.tokens[i]));
  track.bar.style.width = 100 * snapshot.done + "%";
  track.counts.textContent = cost(snapshot);
}

function describe(token) {
  if (token.status === "masked") return "masked";
  if (token.status === "waiting") return "masked, in a later block";
  if (token.status === "remasked") return "masked again in this step";
  const lines = [JSON.stringify(token.piece)];
  if (token.status === "given") lines.push("prompt");
  else if (token.revealed !== null) lines.push("revealed in step " + token.revealed);
  if (token.confidence !== null) lines.push("confidence " + (100 * token.confidence).toFixed(1) + " %");
  return lines.join("\n");
}

function tipAt(event) {
  const node = event.target.closest ? event.target.closest("#tracks .token") : null;
  const token = node && slots.get(node).shown;
  return token ? { text: describe(token), box: node.getBoundingClientRect() } : null;
}
