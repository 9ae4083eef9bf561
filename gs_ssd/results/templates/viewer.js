// A small viewer of 3D Gaussians: WebGL2, sorted on the CPU for each view, no dependency, no network.
// viewer(element, scenes, view): `scenes` is one or two base64 strings of 24-byte records (see splats.py), shown
// before and after a dividing line; `view` says where to stand. Returns {split(share)}.
"use strict";
function viewer(element, scenes, view) {
  const canvas = element.querySelector("canvas");
  const gl = canvas.getContext("webgl2", { alpha: false, antialias: false, powerPreference: "high-performance" });
  const say = (text) => { element.querySelector(".say").textContent = text; };
  if (!gl) {
    element.classList.add("flat");
    say("This browser has no WebGL 2, so there is no 3D view here; the pictures and the video need none.");
    return { split() {} };
  }
  canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault();
    say("The browser has closed the 3D view to save memory; reload the page to see it again.");
  });

  // ---- vectors -------------------------------------------------------------------------------------------------
  const add = (a, b, s = 1) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const unit = (a) => { const n = Math.hypot(...a) || 1; return [a[0] / n, a[1] / n, a[2] / n]; };
  const side = unit(cross(view.up, view.front));

  // ---- scenes --------------------------------------------------------------------------------------------------
  const COLUMNS = 512; // Gaussians per row of the textures
  function texture(unit, width, height, internal, format, type, data) {
    const name = gl.createTexture();
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(gl.TEXTURE_2D, name);
    for (const key of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, key, gl.NEAREST);
    gl.texImage2D(gl.TEXTURE_2D, 0, internal, width, height, 0, format, type, data);
    return name;
  }
  function unpack(base64) {
    const text = atob(base64.trim()), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const records = new DataView(bytes.buffer), count = bytes.length / 24, rows = Math.ceil(count / COLUMNS) || 1;
    const means = new Float32Array(3 * count);
    const shapes = new Float32Array(12 * rows * COLUMNS), colours = new Uint8Array(4 * rows * COLUMNS);
    for (let i = 0; i < count; i++) {
      const at = 24 * i;
      const mean = [0, 4, 8].map((k) => records.getFloat32(at + k, true));
      means.set(mean, 3 * i);
      for (let k = 0; k < 4; k++) colours[4 * i + k] = bytes[at + 12 + k];
      let [w, x, y, z] = [16, 17, 18, 19].map((k) => records.getInt8(at + k) / 127);
      const n = Math.hypot(w, x, y, z) || 1;
      w /= n; x /= n; y /= n; z /= n;
      const R = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
      ];
      const v = [20, 21, 22].map((k) => Math.exp(2 * (view.scale[0] + (view.scale[1] * bytes[at + k]) / 255)));
      const S = (a, b) => R[3 * a] * R[3 * b] * v[0] + R[3 * a + 1] * R[3 * b + 1] * v[1] + R[3 * a + 2] * R[3 * b + 2] * v[2];
      shapes.set([...mean, 0, S(0, 0), S(0, 1), S(0, 2), S(1, 1), S(1, 2), S(2, 2)], 12 * i);
    }
    const vertices = gl.createVertexArray();
    gl.bindVertexArray(vertices);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    const order = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, order);
    gl.bufferData(gl.ARRAY_BUFFER, 4 * count, gl.DYNAMIC_DRAW);
    gl.enableVertexAttribArray(1);
    gl.vertexAttribIPointer(1, 1, gl.UNSIGNED_INT, 0, 0);
    gl.vertexAttribDivisor(1, 1);
    return {
      count, means, vertices, order, sorted: new Uint32Array(count), bins: new Uint16Array(count),
      shapes: texture(0, 3 * COLUMNS, rows, gl.RGBA32F, gl.RGBA, gl.FLOAT, shapes),
      colours: texture(1, COLUMNS, rows, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, colours),
    };
  }
  // Far to near, by counting: two passes over the Gaussians, a few milliseconds for a hundred thousand.
  function sort(scene, forward) {
    const { count, means, bins, sorted } = scene;
    const depth = new Float32Array(count);
    let low = Infinity, high = -Infinity;
    for (let i = 0; i < count; i++) {
      const d = means[3 * i] * forward[0] + means[3 * i + 1] * forward[1] + means[3 * i + 2] * forward[2];
      depth[i] = d;
      if (d < low) low = d;
      if (d > high) high = d;
    }
    const starts = new Uint32Array(65537), scale = 65535 / Math.max(high - low, 1e-9);
    for (let i = 0; i < count; i++) {
      bins[i] = (high - depth[i]) * scale;
      starts[bins[i] + 1]++;
    }
    for (let b = 0; b < 65536; b++) starts[b + 1] += starts[b];
    for (let i = 0; i < count; i++) sorted[starts[bins[i]]++] = i;
    gl.bindBuffer(gl.ARRAY_BUFFER, scene.order);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, sorted);
  }

  // ---- shaders -------------------------------------------------------------------------------------------------
  const VERTEX = `#version 300 es
precision highp float;
precision highp int;
layout(location = 0) in vec2 corner;
layout(location = 1) in uint index;
uniform highp sampler2D shapes;
uniform sampler2D colours;
uniform mat3 rotation;
uniform vec3 eye;
uniform vec2 focal, size;
out vec2 at;
out vec4 colour;
void main() {
  ivec2 cell = ivec2(int(index) % ${COLUMNS}, int(index) / ${COLUMNS});
  vec4 mean = texelFetch(shapes, ivec2(3 * cell.x, cell.y), 0);
  vec4 a = texelFetch(shapes, ivec2(3 * cell.x + 1, cell.y), 0);
  vec4 b = texelFetch(shapes, ivec2(3 * cell.x + 2, cell.y), 0);
  colour = texelFetch(colours, cell, 0);
  vec3 p = rotation * (mean.xyz - eye);
  gl_Position = vec4(0, 0, 2, 1); // outside
  if (p.z < ${view.near.toExponential(6)} || colour.a * 255.0 < 1.0) return;
  vec2 limit = 1.3 * 0.5 * size / focal, t = clamp(p.xy / p.z, -limit, limit);
  mat3 covariance = mat3(a.x, a.y, a.z, a.y, a.w, b.x, a.z, b.x, b.y);
  mat3 J = mat3(focal.x / p.z, 0, 0, 0, focal.y / p.z, 0, -focal.x * t.x / p.z, -focal.y * t.y / p.z, 0);
  mat3 T = J * rotation;
  mat3 C = T * covariance * transpose(T);
  float x = C[0][0] + 0.3, y = C[1][1] + 0.3, xy = C[0][1];
  if (${Boolean(view.antialiased)}) { // the blur by 0.3 pixels squared must not make small Gaussians heavier
    colour.a *= sqrt(max((C[0][0] * C[1][1] - xy * xy) / (x * y - xy * xy), 0.0));
    if (colour.a * 255.0 < 1.0) return;
  }
  float middle = 0.5 * (x + y), radius = length(vec2(0.5 * (x - y), xy));
  float l1 = middle + radius, l2 = max(middle - radius, 0.1);
  vec2 axis = radius < 1e-6 ? vec2(1, 0) : normalize(x > y ? vec2(l1 - y, xy) : vec2(xy, l1 - x));
  float reach = sqrt(2.0 * log(255.0 * colour.a));
  at = corner * reach;
  vec2 centre = focal * p.xy / p.z;
  vec2 pixel = centre + at.x * sqrt(l1) * axis + at.y * sqrt(l2) * vec2(-axis.y, axis.x);
  gl_Position = vec4(2.0 * pixel.x / size.x, -2.0 * pixel.y / size.y, 0, 1);
}`;
  const FRAGMENT = `#version 300 es
precision highp float;
in vec2 at;
in vec4 colour;
out vec4 result;
void main() {
  float alpha = colour.a * exp(-0.5 * dot(at, at));
  if (alpha < 1.0 / 255.0) discard;
  result = vec4(colour.rgb * alpha, alpha);
}`;
  const program = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
    element.classList.add("flat");
    say("This browser's WebGL can't draw the 3D view; the pictures and the video need none.");
    return { split() {} };
  }
  const uniform = (name) => gl.getUniformLocation(program, name);
  const loaded = scenes.map(unpack);

  // ---- the camera ----------------------------------------------------------------------------------------------
  const start = { azimuth: 0, elevation: view.elevation, distance: view.distance, target: [0, 0, 0] };
  let camera = { ...start }, share = 0.5, asked = false;
  function draw() {
    asked = false;
    const dense = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(Math.round(canvas.clientWidth * dense), 1);
    const height = Math.max(Math.round(canvas.clientHeight * dense), 1);
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const [az, el] = [camera.azimuth, camera.elevation];
    const level = add(view.front.map((v) => v * Math.cos(az)), side, Math.sin(az));
    const back = add(level.map((v) => v * Math.cos(el)), view.up, Math.sin(el));
    const forward = back.map((v) => -v), right = unit(cross(forward, view.up)), down = cross(forward, right);
    const eye = add(camera.target, back, camera.distance);
    const focal = (0.5 * Math.min(width, height)) / Math.tan(view.fov / 2);
    gl.viewport(0, 0, width, height);
    gl.disable(gl.SCISSOR_TEST);
    gl.clearColor(...view.background, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.enable(gl.SCISSOR_TEST);
    gl.useProgram(program);
    gl.uniform1i(uniform("shapes"), 0);
    gl.uniform1i(uniform("colours"), 1);
    gl.uniformMatrix3fv(uniform("rotation"), false, [0, 1, 2].flatMap((k) => [right[k], down[k], forward[k]]));
    gl.uniform3fv(uniform("eye"), eye);
    gl.uniform2f(uniform("focal"), focal, focal);
    gl.uniform2f(uniform("size"), width, height);
    const line = loaded.length > 1 ? Math.round(share * width) : 0;
    loaded.forEach((scene, i) => {
      const [from, to] = loaded.length > 1 && i === 0 ? [0, line] : [line, width];
      if (to <= from || !scene.count) return;
      gl.scissor(from, 0, to - from, height);
      sort(scene, forward);
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, scene.shapes);
      gl.activeTexture(gl.TEXTURE1);
      gl.bindTexture(gl.TEXTURE_2D, scene.colours);
      gl.bindVertexArray(scene.vertices);
      gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, scene.count);
    });
    camera.right = right;
    camera.down = down;
    element.dataset.drawn = Number(element.dataset.drawn || 0) + 1;
  }
  function ask() {
    if (!asked) { asked = true; requestAnimationFrame(draw); }
  }

  // ---- hands ---------------------------------------------------------------------------------------------------
  const turn = (dx, dy) => {
    camera.azimuth -= dx;
    camera.elevation = Math.max(-1.5, Math.min(1.5, camera.elevation + dy));
    ask();
  };
  const zoom = (factor) => {
    camera.distance = Math.max(0.1 * start.distance, Math.min(10 * start.distance, camera.distance * factor));
    ask();
  };
  const shift = (dx, dy) => {
    const step = (2 * camera.distance * Math.tan(view.fov / 2)) / Math.min(canvas.clientWidth, canvas.clientHeight);
    camera.target = add(add(camera.target, camera.right, -dx * step), camera.down, -dy * step);
    ask();
  };
  const fingers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    canvas.focus({ preventScroll: true });
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("pointermove", (event) => {
    const old = fingers.get(event.pointerId);
    if (!old) return;
    const dx = event.clientX - old[0], dy = event.clientY - old[1];
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      zoom(gap(old) / gap([event.clientX, event.clientY]));
      shift(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons & 2) {
      shift(dx, dy);
    } else {
      turn(dx * 0.008, dy * 0.008);
    }
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    if (!view.whole && document.activeElement !== canvas) return; // the page scrolls until the view is clicked
    event.preventDefault();
    zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.002));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => { camera = { ...start }; ask(); });
  canvas.addEventListener("keydown", (event) => {
    const action = {
      ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, 0.1),
      ArrowDown: () => turn(0, -0.1), "+": () => zoom(0.9), "=": () => zoom(0.9), "-": () => zoom(1.1),
      Home: () => { camera = { ...start }; ask(); },
    }[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  new ResizeObserver(ask).observe(canvas);
  ask();
  return { split(value) { share = value; ask(); } };
}
