"use strict";
// One position, several signals: all run at once in step, and one is heard. To switch is to fade from one to the other.
const FADE_S = 0.005;

class Player {
  // `tracks`: role -> AudioBuffer, all of one length.
  constructor(context, tracks) {
    this.context = context;
    this.duration = Math.max(...[...tracks.values()].map(track => track.duration));
    this.gains = new Map();
    this.tracks = tracks;
    this.sources = [];
    for (const role of tracks.keys()) {
      const gain = context.createGain();
      gain.gain.value = 0;
      gain.connect(context.destination);
      this.gains.set(role, gain);
    }
  }

  select(role) {
    const now = this.context.currentTime;
    for (const [other, { gain }] of this.gains) {
      gain.cancelScheduledValues(now);
      gain.setValueAtTime(gain.value, now);
      gain.linearRampToValueAtTime(other === role ? 1 : 0, now + FADE_S);
    }
  }

  start(at) {
    this.stop();
    this.began = this.context.currentTime - at;
    for (const [role, buffer] of this.tracks) {
      const source = this.context.createBufferSource();
      source.buffer = buffer;
      source.loop = true;
      source.connect(this.gains.get(role));
      source.start(this.context.currentTime, at);
      this.sources.push(source);
    }
  }

  stop() {
    for (const source of this.sources) { source.stop(); source.disconnect(); }
    this.sources = [];
  }

  get playing() { return this.sources.length > 0; }

  get position() { return Math.max(0, this.context.currentTime - this.began) % this.duration; }
}

// The base64 of a link's data URI -> AudioBuffer.
function decoded(context, href) {
  const text = atob(href.slice(href.indexOf(",") + 1));
  return context.decodeAudioData(Uint8Array.from(text, letter => letter.charCodeAt(0)).buffer);
}

(function () {
  const root = document.getElementById("player");
  if (!root) return;
  const get = id => document.getElementById(id), all = selector => [...root.querySelectorAll(selector)];
  const play = get("play"), slider = get("position"), time = get("time"), clips = get("clip"), stacked = get("stacked");
  let context = null, player = null, role = root.dataset.first, clip = "0", at = 0, starting = 0;

  const figures = () => all(".spectrogram").filter(figure => figure.dataset.clip === clip);
  const seconds = () => parseFloat(figures()[0].dataset.seconds);

  function draw() {
    if (player && player.playing) at = player.position;
    root.style.setProperty("--at", at / seconds());
    slider.value = at;
    time.textContent = at.toFixed(1) + " / " + seconds().toFixed(1) + " s";
    if (player && player.playing) requestAnimationFrame(draw);
  }

  function show() {
    const roles = figures().map(figure => figure.dataset.role);
    if (!roles.includes(role)) role = roles.includes("int8") ? "int8" : roles[0];
    root.classList.toggle("all", stacked.checked);
    for (const figure of all(".spectrogram"))
      figure.hidden = figure.dataset.clip !== clip || !(stacked.checked || figure.dataset.role === role);
    for (const radio of all("input[name=signal]")) {
      radio.disabled = !roles.includes(radio.value);
      radio.checked = radio.value === role;
    }
    slider.max = seconds();
    draw();
  }

  async function start() {
    const mine = ++starting;
    context = context || new AudioContext();
    await context.resume();
    if (!player) {
      const links = figures().map(figure => [figure.dataset.role, figure.querySelector("a.save").href]);
      const tracks = await Promise.all(links.map(async ([name, href]) => [name, await decoded(context, href)]));
      if (mine !== starting) return;
      player = new Player(context, new Map(tracks));
    }
    player.select(role);
    player.start(at);
    label();
    draw();
  }

  function stop() {
    starting++;
    if (player) { if (player.playing) at = player.position; player.stop(); }
    label();
    draw();
  }

  function label() {
    const on = Boolean(player && player.playing);
    play.textContent = on ? "Pause" : "Play";
  }

  function choose(name) {
    if (!figures().some(figure => figure.dataset.role === name)) return;
    role = name;
    if (player) player.select(role);
    show();
  }

  function seek(to) {
    at = Math.min(Math.max(0, to), seconds() - 0.001);
    if (player && player.playing) player.start(at);
    draw();
  }

  function open(number) {
    const on = Boolean(player && player.playing);
    stop();
    player = null; clip = String(number); at = 0;
    if (clips) clips.value = clip;
    show();
    if (on) start();
  }

  play.addEventListener("click", () => (player && player.playing ? stop() : start()));
  slider.addEventListener("input", () => seek(parseFloat(slider.value)));
  stacked.addEventListener("change", show);
  if (clips) clips.addEventListener("change", () => open(clips.value));
  for (const radio of all("input[name=signal]")) radio.addEventListener("change", () => choose(radio.value));
  for (const plot of all(".plot")) plot.addEventListener("click", event => {
    const box = plot.getBoundingClientRect();
    seek(seconds() * (event.clientX - box.left) / box.width);
  });
  for (const button of document.querySelectorAll(".hear")) button.addEventListener("click", () => {
    open(button.dataset.clip);
    root.scrollIntoView();
    start();
  });
  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, textarea, input[type=text]")) return;
    const radio = all("input[name=signal]").find(one => one.dataset.key === event.key);
    if (radio && !radio.disabled) choose(radio.value);
  });
  root.querySelector(".controls").hidden = false;
  show();
})();
