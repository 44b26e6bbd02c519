"use strict";

const id = (name) => document.getElementById(name);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

let socket = null;      // the one of section 1
let lines = {};         // what to copy into a terminal
let renewed = false;    // whether this browser may not know the certificate any more

// ---- one socket -------------------------------------------------------------------------------

function address(user) {
  return `wss://${location.host}/ws?user=${encodeURIComponent(user)}`;
}

// Opens a socket and waits for its backend's hello; null when it was refused.
function open(user) {
  return new Promise((done) => {
    const opened = new WebSocket(address(user));
    opened.onmessage = (event) => done({ opened, hello: JSON.parse(event.data) });
    opened.onclose = () => done(null);
  });
}

function refused() {
  return renewed
    ? "Refused: by the rate limit, or by this browser, which may not know the new certificate. " +
      "Wait a moment, or reload the page."
    : "Refused. Perhaps the rate limit: it gives back a few tries each second.";
}

async function connect(user) {
  disconnect();
  show("connecting", `Connecting as ${user} …`);
  id("connect").setAttribute("aria-disabled", "true");
  const connected = await open(user);
  id("connect").removeAttribute("aria-disabled");
  if (!connected) {
    show("failed", refused());
    return null;
  }
  const { opened, hello } = connected;
  socket = opened;
  keepAlive(opened);
  opened.onclose = (event) => {
    if (socket === opened) {
      socket = null;
      show("closed", `Closed, code ${event.code}.`);
    }
  };
  show("open", `${user} is on ${hello.backend}.`);
  tell(hello);
  remember(user, hello.backend);
  note("note", `connected to ${hello.backend} (${hello.address})`);
  return hello.backend;
}

function disconnect() {
  const old = socket;
  socket = null;
  if (old) {
    old.close(1000);
    show("closed", "Disconnected.");
  }
}

// A second's count goes through the backend and back, so that a person sees the socket live.
function keepAlive(opened) {
  let sent = 0;
  let back = 0;
  const beat = () => id("beat").textContent = socket === opened ? `Heartbeats echoed: ${back}` : "";
  const timer = setInterval(() => {
    if (opened.readyState !== WebSocket.OPEN) {
      clearInterval(timer);
      return;
    }
    sent += 1;
    opened.send(`\u0001beat ${sent}`);
  }, 1000);
  opened.onmessage = (event) => {
    if (event.data === `\u0001beat ${back + 1}`) {
      back += 1;
      beat();
    } else {
      note("in", event.data);
    }
  };
  opened.beats = () => back;
  beat();
}

function show(state, text) {
  id("dot").className = `dot ${state}`;
  id("state").textContent = text;
  id("send").disabled = id("disconnect").disabled = state !== "open";
  if (state !== "open") {
    id("beat").textContent = "";
  }
}

function note(kind, text) {
  const line = document.createElement("div");
  line.className = kind;
  line.textContent = text;
  const log = id("log");
  log.append(line);
  while (log.children.length > 100) {
    log.firstChild.remove();
  }
  log.scrollTop = log.scrollHeight;
}

function tell(hello) {
  const rows = Object.entries(hello.headers).flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const said = document.createElement("dd");
    term.textContent = name;
    said.textContent = value;
    return [term, said];
  });
  id("told").replaceChildren(...rows);
}

// ---- stickiness -------------------------------------------------------------------------------

const users = new Map();

function remember(user, backend) {
  users.set(user, [...(users.get(user) ?? []), backend].slice(-6));
  const rows = [...users].map(([name, backends]) => {
    const row = document.createElement("tr");
    for (const text of [name, backends.join(", ")]) {
      const cell = document.createElement("td");
      cell.textContent = text;
      row.append(cell);
    }
    return row;
  });
  id("users").replaceChildren(...rows);
}

// Below the rate limit, so that this shows stickiness and nothing else.
const PACE = 250;

// A burst just before may have taken the tries: they come back within seconds.
async function patiently(attempt) {
  for (let left = 3; ; left -= 1) {
    await pause(PACE);
    const done = await attempt();
    if (done || left === 0) {
      return done;
    }
    await pause(1000);
  }
}

async function reconnect() {
  const user = id("user").value.trim() || "ada";
  const met = new Set();
  for (let time = 0; time < 3; time += 1) {
    const backend = await patiently(() => connect(user));
    if (!backend) {
      return result("sticky-result", false, refused());
    }
    met.add(backend);
  }
  const [only] = met;
  return met.size === 1
    ? result("sticky-result", true, `${user} came back to ${only} every time.`)
    : result("sticky-result", false, `${user} met ${[...met].join(", ")}.`);
}

async function others() {
  const met = new Set();
  for (const user of ["grace", "linus", "margaret", "dennis", "barbara"]) {
    const connected = await patiently(() => open(user));
    if (!connected) {
      return result("sticky-result", false, refused());
    }
    remember(user, connected.hello.backend);
    met.add(connected.hello.backend);
    connected.opened.close(1000);
  }
  return result("sticky-result", true, `5 users on ${met.size} backends.`);
}

// ---- the certificate --------------------------------------------------------------------------

async function renew() {
  const opened = socket;
  const beats = opened?.beats();
  const answer = await fetch("/demo/certificate", {
    method: "POST",
    headers: { "X-Wsgate-Demo": "1" },
  });
  if (!answer.ok) {
    return result("renew-result", false, `Not renewed: ${answer.status}.`);
  }
  const { before, after } = await answer.json();
  renewed = true;
  id("before").textContent = before;
  id("after").textContent = after;
  if (!opened) {
    return result("renew-result", true, "Renewed. Connect first to see a socket outlive it.");
  }
  working("renew-result", "Renewed. Waiting for the open socket's next echoes …");
  await pause(2500);
  const more = opened.beats() - beats;
  return opened.readyState === WebSocket.OPEN && more > 0
    ? result("renew-result", true, `Renewed. The socket stayed open: ${more} echoes since.`)
    : result("renew-result", false, "The socket did not live through it.");
}

// ---- the burst --------------------------------------------------------------------------------

const BURST = 20;

async function burst() {
  const cells = Array.from({ length: BURST }, () => document.createElement("li"));
  id("cells").replaceChildren(...cells);
  working("burst-result", "Opening …");
  const sockets = await Promise.all(cells.map(async (cell) => {
    const connected = await open(id("user").value.trim() || "ada");
    cell.className = connected ? "opened" : "refused";
    cell.textContent = connected ? "✓" : "✕";
    return connected;
  }));
  const opened = sockets.filter(Boolean);
  opened.forEach((connected) => connected.opened.close(1000));
  const away = BURST - opened.length;
  return result("burst-result", away > 0, `${opened.length} opened, ${away} were refused.`);
}

// ---- the page ---------------------------------------------------------------------------------

function result(name, good, text) {
  id(name).className = `result ${good ? "good" : "bad"}`;
  id(name).textContent = text;
}

function working(name, text) {
  id(name).className = "result";
  id(name).textContent = text;
}

async function copy(button) {
  const line = id(button.dataset.copy);
  let done = "Copied";
  try {
    await navigator.clipboard.writeText(line.textContent);
  } catch {
    getSelection().selectAllChildren(line);
    done = "Selected";
  }
  button.textContent = id("copied").textContent = done;
  await pause(1500);
  button.textContent = "Copy";
  id("copied").textContent = "";
}

// A button that cannot be pressed again before it is done; focus stays where it was.
function press(name, action, results) {
  id(name).addEventListener("click", async () => {
    if (id(name).getAttribute("aria-disabled") === "true") {
      return;
    }
    id(name).setAttribute("aria-disabled", "true");
    try {
      await action();
    } catch (error) {
      result(results, false, `That did not work: ${error.message}`);
    } finally {
      id(name).removeAttribute("aria-disabled");
    }
  });
}

async function introduce() {
  const info = await (await fetch("/demo/info")).json();
  lines = info.lines ?? {};
  id("version").textContent = `${info.version} demo`;
  id("facts").textContent =
    `This page came through the gate at ${location.host}: TLS 1.3, ${info.backends} echo backends. ` +
    "Its WebSockets go the same way.";
  id("burst-size").textContent = info.limits.burst;
  id("burst-rate").textContent = info.limits.rate;
  id("after").textContent = info.certificate;
  for (const [name, line] of Object.entries(lines)) {
    id(`line-${name}`).textContent = line;
  }
  if (info.status) {
    const links = ["/readyz?verbose", "/metrics"].flatMap((path) => {
      const link = document.createElement("a");
      link.href = `http://${info.status}${path}`;
      link.textContent = link.href;
      return [link, " "];
    });
    id("status-links").replaceChildren(...links);
  }
}

id("connect-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (id("connect").getAttribute("aria-disabled") === "true") {
    return;
  }
  connect(id("user").value.trim() || "ada");
});
id("send-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = id("message").value;
  if (socket && text) {
    note("out", text);
    socket.send(text);
  }
});
id("disconnect").addEventListener("click", () => {
  disconnect();
  id("connect").focus();
});
press("again", reconnect, "sticky-result");
press("others", others, "sticky-result");
press("renew", renew, "renew-result");
press("burst", burst, "burst-result");
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", () => copy(button));
}
introduce().catch(() => result("sticky-result", false, "The gate does not answer."));
