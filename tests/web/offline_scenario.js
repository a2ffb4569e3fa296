// The page is loaded; then the network goes, and it is opened anew.

import { open, picture, post, report, until } from "./user.js";

report(async () => {
  const file = await picture("odd.png");
  const asked = async (user) => {
    await user.choose(file);
    await user.ask("is it red?");
    return user.text("best");
  };
  const online = await asked(await open());
  await navigator.serviceWorker.ready;
  await until(() => navigator.serviceWorker.controller, "the service worker");
  await post({ offline: true });
  const user = await open();
  const offline = await asked(user);
  const failed = await fetch("pictures/tiny.png").then(() => ["pictures/tiny.png"], () => []);
  await post({ offline: false });
  return { online, offline, "from the network": failed };
});
