/** The start page: a room, a token, and the way to the other pages. */

import { byId, icon, pageAddress, parameters } from "./ui.js";

const form = /** @type {HTMLFormElement} */ (byId("entrance"));
const field = (name) => /** @type {HTMLInputElement} */ (form.elements.namedItem(name));

for (const place of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-icon]"))) {
  place.append(icon(place.dataset.icon));
}
const given = parameters();
for (const name of ["room", "token", "name"]) field(name).value = given[name];
(given.room ? field("token") : field("room")).focus();

for (const door of /** @type {NodeListOf<HTMLButtonElement>} */ (form.querySelectorAll("button.door"))) {
  // An archivist's token may hold for every room.
  door.addEventListener("click", () => (field("room").required = door.value !== "archive"));
}
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const door = /** @type {HTMLButtonElement} */ (/** @type {SubmitEvent} */ (event).submitter);
  const [room, token, name] = ["room", "token", "name"].map((entry) => field(entry).value.trim());
  location.href = pageAddress(door.value, { room, token, name });
});
