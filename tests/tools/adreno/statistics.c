/* What a Vulkan driver makes of compute shaders, without its GPU: a line for each with registers, spills and instructions.
 *
 *     statistics DRIVER.so FILE.spv..
 *
 * The driver is opened by itself, without a loader; storage buffers 0 to 7 are bound. */
#define VK_NO_PROTOTYPES
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <vulkan/vulkan.h>

enum { BINDINGS = 8, MOST_STATISTICS = 64 };

static VkInstance instance;
static PFN_vkGetInstanceProcAddr find;

#define FUNCTION(name) PFN_##name name = (PFN_##name)find(instance, #name)

static void check(VkResult result, const char *what)
{
    if (result != VK_SUCCESS) {
        fprintf(stderr, "%s: %d\n", what, (int)result);
        exit(1);
    }
}

static VkDevice open_device(void)
{
    FUNCTION(vkEnumeratePhysicalDevices);
    FUNCTION(vkGetPhysicalDeviceProperties);
    FUNCTION(vkCreateDevice);
    uint32_t count = 1;
    VkPhysicalDevice physical;
    check(vkEnumeratePhysicalDevices(instance, &count, &physical), "adapters");
    if (count == 0)
        check(VK_ERROR_INITIALIZATION_FAILED, "adapters");
    VkPhysicalDeviceProperties properties;
    vkGetPhysicalDeviceProperties(physical, &properties);
    printf("%s\n", properties.deviceName);
    float priority = 1;
    VkDeviceQueueCreateInfo queue = {VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO, NULL, 0, 0, 1, &priority};
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR statistics = {
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR, NULL, VK_TRUE};
    const char *extensions[] = {"VK_KHR_pipeline_executable_properties"};
    VkDeviceCreateInfo info = {VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, &statistics, 0, 1, &queue, 0, NULL, 1, extensions, NULL};
    VkDevice device;
    check(vkCreateDevice(physical, &info, NULL, &device), "device");
    return device;
}

static VkPipelineLayout layout_of(VkDevice device)
{
    FUNCTION(vkCreateDescriptorSetLayout);
    FUNCTION(vkCreatePipelineLayout);
    VkDescriptorSetLayoutBinding bindings[BINDINGS];
    for (uint32_t place = 0; place < BINDINGS; place++)
        bindings[place] = (VkDescriptorSetLayoutBinding){place, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1,
                                                         VK_SHADER_STAGE_COMPUTE_BIT, NULL};
    VkDescriptorSetLayoutCreateInfo set_info = {VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO, NULL, 0, BINDINGS, bindings};
    VkDescriptorSetLayout set;
    check(vkCreateDescriptorSetLayout(device, &set_info, NULL, &set), "bindings");
    VkPipelineLayoutCreateInfo info = {VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, NULL, 0, 1, &set, 0, NULL};
    VkPipelineLayout layout;
    check(vkCreatePipelineLayout(device, &info, NULL, &layout), "layout");
    return layout;
}

static VkPipeline compile(VkDevice device, VkPipelineLayout layout, const char *path)
{
    FUNCTION(vkCreateShaderModule);
    FUNCTION(vkCreateComputePipelines);
    static uint32_t code[1 << 20];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        check(VK_ERROR_UNKNOWN, path);
    size_t bytes = fread(code, 1, sizeof code, file);
    fclose(file);
    VkShaderModuleCreateInfo module_info = {VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, NULL, 0, bytes, code};
    VkShaderModule module;
    check(vkCreateShaderModule(device, &module_info, NULL, &module), path);
    VkPipelineShaderStageCreateInfo stage = {VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO, NULL, 0,
                                             VK_SHADER_STAGE_COMPUTE_BIT, module, "main", NULL};
    VkComputePipelineCreateInfo info = {VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO, NULL,
                                        VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR, stage, layout, VK_NULL_HANDLE, 0};
    VkPipeline pipeline;
    check(vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &info, NULL, &pipeline), path);
    return pipeline;
}

static void print(VkDevice device, VkPipeline pipeline, const char *path)
{
    FUNCTION(vkGetPipelineExecutableStatisticsKHR);
    VkPipelineExecutableInfoKHR info = {VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, NULL, pipeline, 0};
    VkPipelineExecutableStatisticKHR statistics[MOST_STATISTICS];
    for (int place = 0; place < MOST_STATISTICS; place++)
        statistics[place] = (VkPipelineExecutableStatisticKHR){VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR};
    uint32_t count = MOST_STATISTICS;
    check(vkGetPipelineExecutableStatisticsKHR(device, &info, &count, statistics), "statistics");
    printf("%s", path);
    for (uint32_t place = 0; place < count; place++) {
        const VkPipelineExecutableStatisticKHR *one = &statistics[place];
        if (one->format == VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR)
            printf("; %s %g", one->name, one->value.f64);
        else
            printf("; %s %" PRIu64, one->name, one->value.u64);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    void *driver = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (driver == NULL) {
        fprintf(stderr, "usage: %s DRIVER.so FILE.spv..: %s\n", argv[0], argc > 1 ? dlerror() : "no driver");
        return 2;
    }
    find = (PFN_vkGetInstanceProcAddr)dlsym(driver, "vk_icdGetInstanceProcAddr");
    FUNCTION(vkCreateInstance);
    VkApplicationInfo app = {VK_STRUCTURE_TYPE_APPLICATION_INFO, NULL, NULL, 0, NULL, 0, VK_API_VERSION_1_1};
    VkInstanceCreateInfo info = {VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, NULL, 0, &app, 0, NULL, 0, NULL};
    check(vkCreateInstance(&info, NULL, &instance), "instance");
    VkDevice device = open_device();
    VkPipelineLayout layout = layout_of(device);
    for (int place = 2; place < argc; place++)
        print(device, compile(device, layout, argv[place]), argv[place]);
    return 0;
}
