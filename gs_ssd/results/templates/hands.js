for (const pair of document.querySelectorAll(".pair")) {
  const input = pair.querySelector("input");
  input.addEventListener("input", () => pair.style.setProperty("--at", input.value + "%"));
}
const copy = document.getElementById("copy");
if (copy) copy.addEventListener("click", () => {
  getSelection().selectAllChildren(document.getElementById("command"));
  copy.textContent = document.execCommand("copy") ? "Copied" : "Select and copy";
});
