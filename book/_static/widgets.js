// Loaded between RequireJS and html-manager, on pages with widgets. html-manager asks for its fonts below RequireJS's
// base address, which would be the page's own folder: make it the folder of our copies.
requirejs.config({ baseUrl: new URL("vendor/", document.currentScript.src).href });
