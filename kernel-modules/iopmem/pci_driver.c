// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The PCI driver: takes over a function and offers one of its BARs. It knows
 * no device ids; a function is bound through driver_override or new_id.
 */
#include <linux/io.h>
#include <linux/memremap.h>
#include <linux/module.h>
#include <linux/pci-p2pdma.h>
#include <linux/pm.h>

#include "compat.h"
#include "internal.h"

static int bar_param = -1;
module_param_named(bar, bar_param, int, 0644);
MODULE_PARM_DESC(bar,
		 "BAR that a bind offers, 0 to 5; -1 (default): the largest prefetchable memory BAR");

static int cache_param = IOPMEM_CACHE_UC;

static int cache_param_set(const char *text, const struct kernel_param *kp)
{
	enum iopmem_cache_mode mode;

	for (mode = IOPMEM_CACHE_UC; mode <= IOPMEM_CACHE_WC; mode++) {
		if (sysfs_streq(text, iopmem_cache_names[mode])) {
			WRITE_ONCE(cache_param, mode);
			return 0;
		}
	}
	if (sysfs_streq(text, "wb") || sysfs_streq(text, "wt"))
		pr_err("iopmem: cache=wb and wt: PCI memory can't be cached, as peers change it and no cache hears of it\n");
	return -EINVAL;
}

static int cache_param_get(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%s\n",
			  iopmem_cache_names[READ_ONCE(cache_param)]);
}

static const struct kernel_param_ops cache_param_ops = {
	.set = cache_param_set,
	.get = cache_param_get,
};
module_param_cb(cache, &cache_param_ops, NULL, 0644);
MODULE_PARM_DESC(cache,
		 "How CPUs map the BAR that a bind offers: uc (default), uncached; wc, write-combining");

/* Reading or writing a prefetchable BAR has no side effects. */
static int largest_prefetchable_bar(struct pci_dev *pdev)
{
	const unsigned long wanted = IORESOURCE_MEM | IORESOURCE_PREFETCH;
	resource_size_t size = 0;
	int best = -1;
	int bar;

	for (bar = 0; bar < PCI_STD_NUM_BARS; bar++) {
		if ((pci_resource_flags(pdev, bar) & wanted) == wanted &&
		    pci_resource_len(pdev, bar) > size) {
			size = pci_resource_len(pdev, bar);
			best = bar;
		}
	}
	return best;
}

/* Returns the BAR to offer, or -EINVAL having said why there is none. */
static int choose_bar(struct pci_dev *pdev)
{
	unsigned long align = memremap_compat_align();
	int bar = READ_ONCE(bar_param);
	resource_size_t start, len;

	if (bar == -1) {
		bar = largest_prefetchable_bar(pdev);
		if (bar < 0) {
			pci_err(pdev, "no prefetchable memory BAR; name one with the module parameter bar\n");
			return -EINVAL;
		}
	}
	if (bar < 0 || bar >= PCI_STD_NUM_BARS) {
		pci_err(pdev, "there is no BAR %d\n", bar);
		return -EINVAL;
	}
	if (!(pci_resource_flags(pdev, bar) & IORESOURCE_MEM)) {
		pci_err(pdev, "BAR %d is not memory\n", bar);
		return -EINVAL;
	}

	start = pci_resource_start(pdev, bar);
	len = pci_resource_len(pdev, bar);
	if (!len || !IS_ALIGNED(start | len, align)) {
		pci_err(pdev, "BAR %d (%pR) is too small or not aligned: start and size must be multiples of %lu KiB\n",
			bar, &pdev->resource[bar], align >> 10);
		return -EINVAL;
	}
	return bar;
}

/* Give the BAR struct pages. Returns the provider, with a reference. */
static struct iopmem_provider *register_bar(struct pci_dev *pdev, int bar)
{
	enum iopmem_cache_mode cache = READ_ONCE(cache_param);
	struct iopmem_provider *provider;
	int ret;

	ret = pci_p2pdma_add_resource_cache(pdev, bar, 0, 0,
					    cache == IOPMEM_CACHE_WC ?
					    MEMREMAP_WC : 0);
	if (ret) {
		pci_err(pdev, "BAR %d cannot have struct pages%s: %d\n", bar,
			cache == IOPMEM_CACHE_WC ? " and be write-combining" : "",
			ret);
		return ERR_PTR(ret);
	}

	provider = iopmem_provider_get(pdev);
	if (IS_ERR(provider))
		return provider;
	ret = iopmem_provider_measure(provider);
	if (!ret && provider->cache != cache) {
		pci_err(pdev, "BAR %d is not to be had with cache=%s: somebody else has mapped it %s\n",
			bar, iopmem_cache_names[cache],
			iopmem_cache_names[provider->cache]);
		ret = -EBUSY;
	}
	if (ret) {
		iopmem_provider_put(provider);
		return ERR_PTR(ret);
	}
	return provider;
}

static int iopmem_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct iopmem_provider *provider;
	int bar, ret;

	bar = choose_bar(pdev);
	if (bar < 0)
		return bar;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = pcim_request_region(pdev, bar, "iopmem");
	if (ret) {
		pci_err(pdev, "BAR %d is in use\n", bar);
		return ret;
	}
	/* Restored after a slot reset. */
	ret = pci_save_state(pdev);
	if (ret)
		return ret;

	provider = register_bar(pdev, bar);
	if (IS_ERR(provider))
		return PTR_ERR(provider);
	ret = iopmem_dev_create(provider, false);
	if (ret) {
		iopmem_provider_put(provider);
		return ret;
	}
	pci_set_drvdata(pdev, provider);
	return 0;
}

/* The bus notifier has revoked the provider; devres releases the pages. */
static void iopmem_remove(struct pci_dev *pdev)
{
	struct iopmem_provider *provider = pci_get_drvdata(pdev);

	iopmem_dev_destroy(provider->dev);
	iopmem_provider_put(provider);
}

/* Else its registers, and its memory, read as all ones. */
static bool answers(struct pci_dev *pdev)
{
	u16 command;

	pci_read_config_word(pdev, PCI_COMMAND, &command);
	return !PCI_POSSIBLE_ERROR(command);
}

static void log_unanswered(struct pci_dev *pdev)
{
	pci_err(pdev, "the function does not answer: its memory stays revoked\n");
}

static void offer_again(struct pci_dev *pdev)
{
	struct iopmem_provider *provider = pci_get_drvdata(pdev);

	if (!answers(pdev)) {
		log_unanswered(pdev);
		/* What was saved before is as good as it was. */
		pdev->state_saved = true;
		return;
	}
	/* Older kernels restore no more than once what has been saved. */
	pci_save_state(pdev);
	if (!provider->recovering)
		iopmem_provider_offer(provider);
	else
		pci_warn(pdev, "a PCI error has not been recovered from: its memory stays revoked\n");
}

static void iopmem_reset_prepare(struct pci_dev *pdev)
{
	iopmem_provider_revoke(pci_get_drvdata(pdev));
}

/* Called whether the reset has succeeded or not. */
static void iopmem_reset_done(struct pci_dev *pdev)
{
	offer_again(pdev);
}

static pci_ers_result_t iopmem_error_detected(struct pci_dev *pdev,
					      pci_channel_state_t state)
{
	struct iopmem_provider *provider = pci_get_drvdata(pdev);

	/* Any other reset meanwhile is not the end of it. */
	provider->recovering = true;
	iopmem_provider_revoke(provider);
	return state == pci_channel_io_perm_failure ?
	       PCI_ERS_RESULT_DISCONNECT : PCI_ERS_RESULT_NEED_RESET;
}

static pci_ers_result_t iopmem_slot_reset(struct pci_dev *pdev)
{
	if (!answers(pdev)) {
		log_unanswered(pdev);
		return PCI_ERS_RESULT_DISCONNECT;
	}
	pci_restore_state(pdev);
	pci_save_state(pdev);
	return PCI_ERS_RESULT_RECOVERED;
}

static void iopmem_error_resume(struct pci_dev *pdev)
{
	struct iopmem_provider *provider = pci_get_drvdata(pdev);

	provider->recovering = false;
	iopmem_provider_offer(provider);
}

static const struct pci_error_handlers iopmem_err_handlers = {
	.reset_prepare = iopmem_reset_prepare,
	.reset_done = iopmem_reset_done,
	.error_detected = iopmem_error_detected,
	.slot_reset = iopmem_slot_reset,
	.resume = iopmem_error_resume,
};

/* What is in the memory may not survive, so nobody keeps it. */
static int iopmem_suspend(struct device *dev)
{
	struct pci_dev *pdev = to_pci_dev(dev);

	iopmem_provider_revoke(dev_get_drvdata(dev));
	/* Else the core saves all ones, and restores them. */
	if (!answers(pdev))
		pdev->state_saved = true;
	return 0;
}

static int iopmem_resume(struct device *dev)
{
	offer_again(to_pci_dev(dev));
	return 0;
}

static DEFINE_SIMPLE_DEV_PM_OPS(iopmem_pm_ops, iopmem_suspend, iopmem_resume);

struct pci_driver iopmem_pci_driver = {
	.name = "iopmem",
	.probe = iopmem_probe,
	.remove = iopmem_remove,
	.err_handler = &iopmem_err_handlers,
	.driver.pm = pm_sleep_ptr(&iopmem_pm_ops),
};
