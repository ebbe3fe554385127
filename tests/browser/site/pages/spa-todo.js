const list = document.querySelector("#items");
const picked = document.querySelector("#filter");
let items = [{ text: "Buy paint", done: false }, { text: "Wash brushes", done: true }, { text: "Paint the door", done: false }];
let dragged = null;

function draw() {
  list.replaceChildren(...items.filter(isShown).map(drawn));
  document.querySelector("#count").textContent = `${items.filter((item) => !item.done).length} open`;
}

function isShown(item) {
  return picked.value === "all" || (picked.value === "done") === item.done;
}

function drawn(item) {
  const line = Object.assign(document.createElement("li"), { draggable: true, className: item.done ? "done" : "" });
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: item.done });
  box.setAttribute("aria-label", `Done: ${item.text}`);
  box.onchange = () => { item.done = box.checked; draw(); };
  const text = Object.assign(document.createElement("span"), { textContent: item.text });
  text.ondblclick = () => edit(item, text);
  const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "Remove" });
  remove.setAttribute("aria-label", `Remove: ${item.text}`);
  remove.onclick = () => { if (confirm(`Remove ${item.text}?`)) { items = items.filter((one) => one !== item); draw(); } };
  line.ondragstart = () => { dragged = item; };
  line.ondragover = (event) => event.preventDefault();
  line.ondrop = (event) => { event.preventDefault(); move(dragged, item); };
  line.append(box, text, remove);
  return line;
}

function edit(item, text) {
  const field = Object.assign(document.createElement("input"), { value: item.text });
  field.setAttribute("aria-label", "New text");
  field.onkeydown = (event) => { if (event.key === "Enter") { item.text = field.value; draw(); } };
  text.replaceWith(field);
  field.focus();
}

function move(item, before) {
  items = items.filter((one) => one !== item);
  items.splice(items.indexOf(before), 0, item);
  draw();
}

document.querySelector("#add").onsubmit = (event) => {
  event.preventDefault();
  const field = event.target.elements.text;
  if (field.value) items.push({ text: field.value, done: false });
  field.value = "";
  draw();
};
document.querySelector("#clear").onclick = () => { items = items.filter((item) => !item.done); draw(); };
document.querySelector("#rename").onclick = () => {
  document.querySelector("h1").textContent = prompt("A new name?", "To do") ?? "To do";
};
document.querySelector("#open").onclick = () => document.querySelector("#details").showModal();
document.querySelector("#file").onchange = (event) => {
  const [file] = event.target.files;
  document.querySelector("#attached").textContent = `${file.name}, ${file.size} bytes`;
};
picked.onchange = draw;
draw();
