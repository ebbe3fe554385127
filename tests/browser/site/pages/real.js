// B12: with ?real=1 the visible field stands beside the decoy.
if (new URLSearchParams(location.search).has("real")) {
  document.querySelector("#real").hidden = false;
  document.querySelector("[name=password]").disabled = false;
}
